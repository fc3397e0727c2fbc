import hashlib
from pathlib import Path

import pytest

from inferometer.base.errors import ModelUnusable
from inferometer.core.spec import Arm, Draft
from inferometer.engines.model_files import model_facts


def arm_of(model: Path, draft: Path | None = None) -> Arm:
    return Arm(engine="embedded", model=str(model), draft=None if draft is None else Draft(model=str(draft)))


def test_a_model_is_known_by_name_size_and_the_hash_of_its_first_mebibyte(tmp_path: Path):
    model, draft = tmp_path / "m.gguf", tmp_path / "d.gguf"
    content = b"GGUF" + bytes(2 * 1024**2)
    model.write_bytes(content)
    draft.write_bytes(b"GGUFd")
    facts = {fact.name: fact.value for fact in model_facts(arm_of(model, draft))}
    assert facts.pop("model_changed_ns") == str(model.stat().st_mtime_ns)
    assert {facts.pop("draft_changed_ns"), facts.pop("draft_samples_sha256"), facts.pop("model_samples_sha256")}
    assert facts == {
        "model_file": "m.gguf",
        "model_bytes": "2097156",
        "model_head_sha256": hashlib.sha256(content[: 1024**2]).hexdigest(),
        "draft_file": "d.gguf",
        "draft_bytes": "5",
        "draft_head_sha256": hashlib.sha256(b"GGUFd").hexdigest(),
    }


def test_a_model_says_its_own_name(tiny_pair):
    facts = {fact.name: fact.value for fact in model_facts(arm_of(*tiny_pair))}
    assert facts["model_name"] == "stand-in 3x256, random weights of seed 1"
    assert facts["draft_name"] == "stand-in 1x64, random weights of seed 1"


def test_a_missing_model_is_told_with_the_nearest_name(tmp_path: Path):
    (tmp_path / "Qwen2.5-Coder-32B-Q4_K_M.gguf").write_bytes(b"GGUF")
    wrong = tmp_path / "Qwen2.5-Coder-32B-Q4_K_S.gguf"
    with pytest.raises(ModelUnusable, match=r"no model file .*Q4_K_S\.gguf; did you mean .*Q4_K_M\.gguf\?"):
        model_facts(arm_of(wrong))


def test_a_missing_folder_is_told(tmp_path: Path):
    with pytest.raises(ModelUnusable, match="there is no folder"):
        model_facts(arm_of(tmp_path / "nowhere" / "m.gguf"))


def test_a_folder_is_no_model_but_may_hold_some(tmp_path: Path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelUnusable, match=r"is a folder; name a \.gguf file in it: m\.gguf"):
        model_facts(arm_of(tmp_path))


def test_a_draft_that_is_no_gguf_is_told_as_the_draft(tmp_path: Path):
    model, draft = tmp_path / "m.gguf", tmp_path / "d.gguf"
    model.write_bytes(b"GGUF")
    draft.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelUnusable, match=r"the draft file .* is not a GGUF file: it begins with b'vers'"):
        model_facts(arm_of(model, draft))


@pytest.mark.parametrize("at", [1024**2 + 10, 2 * 1024**2, 4 * 1024**2 - 1])
def test_weights_that_changed_behind_the_head_are_another_file(tmp_path: Path, at: int):
    model = tmp_path / "m.gguf"
    content = bytearray(b"GGUF" + bytes(4 * 1024**2))
    hashes: set[str] = set()
    for filler in (0, 1):
        content[at:] = bytes([filler]) * (len(content) - at)
        model.write_bytes(content)
        hashes |= {fact.value for fact in model_facts(arm_of(model)) if fact.name == "model_samples_sha256"}
    assert len(hashes) == 2
