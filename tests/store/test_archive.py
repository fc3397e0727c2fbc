"""A study in one file: there and back, and what a stranger's zip may not do."""

import contextlib
import sqlite3
import stat
import zipfile
from pathlib import Path

import pytest

from inferometer.base.errors import RequestWrong, StudyUnreadable
from inferometer.core.continuation import Continuation, TokenChoice
from inferometer.core.record import AnswerCheck
from inferometer.results.read import read_study
from inferometer.results.study_comparison import comparison_of
from inferometer.store import Store, StudyReader, archive
from inferometer.store.hidden_text import NOTE, hidden_yaml


@pytest.fixture
def packed(write_study, tmp_path: Path) -> Path:
    folder = write_study("mine", {"base": 10, "draft": 5})
    archive.write(folder, tmp_path / "mine.zip")
    return tmp_path / "mine.zip"


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def made(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def refused(path: Path) -> str:
    with pytest.raises(StudyUnreadable) as caught:
        read_study(path)
    return str(caught.value)


def test_a_zip_reads_as_the_folder_does_and_holds_its_logs(packed: Path):
    assert set(members(packed)) == {"mine/study.yaml", "mine/study.db", "mine/logs/arm-1.log"}
    folder = packed.with_suffix("")
    whole, unpacked = read_study(folder), read_study(packed)
    assert unpacked.trials == whole.trials
    assert (unpacked.spec, unpacked.plan, unpacked.machine) == (whole.spec, whole.plan, whole.machine)
    assert comparison_of([packed], "inferometer") == comparison_of([folder], "inferometer")


def test_a_zip_with_hidden_texts_compares_alike_and_holds_none_of_them(write_study, tmp_path: Path):
    folder = write_study("mine", {"base": 10, "draft": 5}, prompts=("Why rains it?", "Why snows it?"), text="clouds")
    with contextlib.closing(Store.amend(folder)) as store:
        for trial_id in store.trial_ids().values():
            store.add_check(trial_id, AnswerCheck(1, "failed", "AssertionError: mountains instead of 12"))
        store.add_continuation("base", "r0", Continuation((TokenChoice("valleys", (("rivers", -0.5),)),)))
    archive.write(folder, tmp_path / "hidden.zip", hide_text=True)
    assert set(members(tmp_path / "hidden.zip")) == {"mine/study.yaml", "mine/study.db"}
    whole, hidden = comparison_of([folder], "inferometer"), comparison_of([tmp_path / "hidden.zip"], "inferometer")
    assert hidden.rows == whole.rows
    assert hidden.notes == (*whole.notes, NOTE)
    packed = members(tmp_path / "hidden.zip")["mine/study.db"]
    assert b"AssertionError: " in packed and b" 12" in packed
    with archive.opened(tmp_path / "hidden.zip") as opened, contextlib.closing(StudyReader.open(opened)) as store:
        (answer,) = store.continuations()["base"].values()
        texts = f"{packed!r} {answer} {[trial.records[0].text for trial in store.trials()]}"
        assert not [word for word in ("rains", "snows", "clouds", "mountains", "valleys", "rivers") if word in texts]
        first, second = (item.request.messages[0].content for item in store.plan().measured)
        assert first[:4] == second[:4] and first != second
        with pytest.raises(RequestWrong, match="--hide-text"):
            Store.amend(opened)


def test_the_texts_of_a_zip_can_be_hidden_too(packed: Path, tmp_path: Path):
    target = tmp_path / "given.zip"
    archive.write(packed, target, hide_text=True)
    assert set(members(target)) == {"mine/study.yaml", "mine/study.db"}
    assert comparison_of([target], "inferometer").notes[-1] == NOTE


def test_hidden_prompts_of_the_study_file_are_hidden_too():
    text = "arms: {}\nworkload:\n  kind: prompts\n  prompts: [Why it rains]\n"
    assert "rains" not in hidden_yaml(text) and "kind: prompts" in hidden_yaml(text)
    assert hidden_yaml("workload: {kind: builtin}") == "workload: {kind: builtin}"


def test_nothing_is_left_of_what_was_unpacked(packed: Path):
    with archive.opened(packed) as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["study.db", "study.yaml"]
    assert not folder.exists()


def test_a_study_that_is_still_written_is_packed_as_far_as_it_is(write_study, tmp_path: Path):
    folder = write_study("mine", {"base": 10}, trials=1)
    store = Store.resume(folder, read_study(folder).spec)
    store.begin_trial("base", 2, False, "2026-05-04T13:00:00+00:00")
    assert (folder / "study.db-wal").stat().st_size > 0
    archive.write(folder, tmp_path / "now.zip")
    store.close()
    assert [trial.state for trial in read_study(tmp_path / "now.zip").trials] == ["done", "running"]


def test_without_a_folder_around_it_and_with_what_file_managers_add_it_is_a_study_too(packed: Path):
    files = {name.removeprefix("mine/"): content for name, content in members(packed).items()}
    files |= {"__MACOSX/._study.db": b"x", ".DS_Store": b"x"}
    assert len(read_study(made(packed.with_name("flat.zip"), files)).trials) == 6


@pytest.mark.parametrize(
    "name",
    ["../study.db", "mine/../../up.yaml", "/etc/study.yaml", "C:/study.db", "mine/logs/../../../x", "..\\..\\study.db"],
)
def test_a_name_that_leaves_the_folder_is_refused(packed: Path, name: str, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(name, b"x")
    assert "which would be written outside its folder" in refused(packed)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_is_refused(packed: Path):
    link = zipfile.ZipInfo("mine/logs/passwd")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "outside its folder" in refused(packed)


@pytest.mark.parametrize("name", ["mine/run.sh", "mine/logs/deep/er.log", "a/b/study.yaml"])
def test_what_no_study_has_is_refused(packed: Path, name: str):
    assert "which no study has" in refused(made(packed, {**members(packed), name: b"x"}))


def test_a_file_that_would_fill_the_disk_is_refused_before_it_is_unpacked(packed: Path):
    bomb = bytes(65 * 1024**2)  # of zeros, a thousandth when packed
    said = refused(made(packed, {**members(packed), "mine/study.db": bomb}))
    assert "study.db would expand from" in said
    assert "the limit is 64.0 MiB" in said


def test_a_large_study_that_shrinks_as_studies_do_is_no_bomb():
    info = zipfile.ZipInfo("mine/study.db")
    info.compress_type, info.file_size, info.compress_size = zipfile.ZIP_DEFLATED, 2 * 1024**3, 300 * 1024**2
    archive._check_size(Path("s.zip"), info, 8 * 1024**3)


def test_a_size_that_the_archive_lies_about_is_found_out(packed: Path):
    """The directory at the archive's end says 10 bytes of study.yaml, which is longer."""
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        info = archive.getinfo("mine/study.yaml")
    place = content.rindex(b"mine/study.yaml") - 46
    assert content[place : place + 4] == b"PK\x01\x02"
    assert int.from_bytes(content[place + 24 : place + 28], "little") == info.file_size
    content[place + 24 : place + 28] = (10).to_bytes(4, "little")
    packed.write_bytes(content)
    assert "is not a readable zip file" in refused(packed)


@pytest.mark.parametrize(
    "script",
    [
        "CREATE VIEW seen AS SELECT 1",
        "CREATE TRIGGER t AFTER INSERT ON meta BEGIN SELECT 1; END",
        "CREATE TABLE own (a, b AS (zeroblob(1000000000)))",
        "CREATE VIRTUAL TABLE v USING fts5(a)",
    ],
)
def test_a_database_that_runs_something_is_refused(packed: Path, script: str, tmp_path: Path):
    files = members(packed)
    (tmp_path / "evil.db").write_bytes(files["mine/study.db"])
    connection = sqlite3.connect(tmp_path / "evil.db")
    connection.executescript(script)
    connection.close()
    assert "not a plain table" in refused(made(packed, {**files, "mine/study.db": (tmp_path / "evil.db").read_bytes()}))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"notes.txt": b"x"}, "which no study has"),
        ({"mine/study.yaml": b"x"}, "it has no study.db"),
        ({"a/study.yaml": b"x", "b/study.db": b"x"}, "several studies (a, b)"),
        ({"found/steps/1/study.yaml": b"x", "found/steps/1/study.db": b"x"}, "Unzip a folder of several studies"),
        ({"mine/summary.md": b"x"}, "no study.db and study.yaml"),
        ({"mine/study.yaml": b"x", "mine/study.db": b"no database" * 99}, "its study.db cannot be read"),
    ],
)
def test_a_zip_of_something_else_is_told(tmp_path: Path, files, said):
    assert said in refused(made(tmp_path / "other.zip", files))


def test_a_broken_zip_is_told(packed: Path):
    content = packed.read_bytes()
    packed.write_bytes(content[: len(content) // 2])
    assert "is not a readable zip file" in refused(packed)
    packed.write_bytes(b"")
    assert "is not a readable zip file" in refused(packed)


def test_a_name_that_is_no_utf_8_though_it_says_so_is_told(packed: Path):
    other = made(packed.with_name("other.zip"), {**members(packed), "mine/logs/ä.log": b"x"})
    other.write_bytes(other.read_bytes().replace("ä".encode(), b"\xf7\xf7"))
    assert "is not a readable zip file" in refused(other)


def test_a_folder_and_its_copy_are_not_compared_with_one_another(packed: Path):
    with pytest.raises(RequestWrong, match="hold the same trials: one is a copy"):
        comparison_of([packed.with_suffix(""), packed], "inferometer")


def test_a_path_where_nothing_is_is_told(tmp_path: Path):
    with pytest.raises(StudyUnreadable, match=r"nothing\.zip does not exist: give the folder of a study, or its zip"):
        read_study(tmp_path / "nothing.zip")


def test_a_zip_is_not_gone_on_with(packed: Path):
    before = packed.read_bytes()
    with pytest.raises(RequestWrong, match=r"mine\.zip cannot hold a study"):
        Store.resume(packed, read_study(packed).spec)
    assert packed.read_bytes() == before


def test_a_folder_without_a_study_is_not_packed(tmp_path: Path):
    with pytest.raises(StudyUnreadable, match=r"it has no study\.db"):
        archive.write(tmp_path, tmp_path / "x.zip")
