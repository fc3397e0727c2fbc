"""Do the documents tell the truth? Their commands are run, their study files parsed, their links followed.

A fenced block with a command in it (one of COMMANDS, or anything in the language sh or bash) is run as it stands, by
bash, in a folder of its page: one block after another, as a reader would. What a reader has and this machine has not is
put in its place first: see `Reader`.
A block of make's commands alone is not run: they make environments, run these very tests, or take minutes. A comment in
the line before a block says what else holds for it:

    <!-- not run: REASON -->     it is not run; its commands and flags must be known to the program (or to make)
    <!-- exits with 0 or 3: REASON -->
    <!-- no study file: WHAT IT IS -->     of a yaml block

A yaml, python or json block becomes the file whose name, as code, ends the text before it (`study.yaml`:).
"""

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import msgspec
import pytest
import typer
import warm_program
from typer.core import TyperCommand, TyperGroup

from inferometer.base.extensions import ENGINES, WORKLOADS
from inferometer.cli import app
from inferometer.cli.bench_flags import spread_flags
from inferometer.cli.engine_bench import PassingOn
from inferometer.core.quantities import QUANTITIES, TURN_NS
from inferometer.core.spec import Arm, Draft, Spec
from inferometer.core.spec_file import parse, parse_search
from inferometer.core.workload_settings import Builtin
from inferometer.exports.metric_table import METRIC_COLUMNS
from inferometer.exports.request_table import EVENT_COLUMNS, EVENT_TEXT, REQUEST_COLUMNS
from inferometer.standin.model_names import standin_file
from inferometer.study.loop import run_study
from inferometer.testing import llama_server_shim, openai_server_shim
from inferometer.testing.scripted_server import ScriptedServer, inference_server

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if page.name != "CHANGELOG.md")
COMMANDS = re.compile(r"^(?:\w+=\S* )*(inferometer|make|pip|ray|git|python3?|curl|docker|llama-server|vllm) ")
FENCE = re.compile(r"^(`{3,})(\w*)$")
MARK = re.compile(r"^<!-- (not run|no study file|exits with ([\d or]+)): (.+) -->$")
FILE_NAME = re.compile(r"`([\w.-]+\.(?:yaml|py|json))`[^`]*:$")


class Block(NamedTuple):
    """A fenced block. `mark`: the words before the colon of its comment; `reason`: those after."""

    page: Path
    line: int
    language: str
    text: str
    mark: str
    reason: str
    file: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_script(self) -> bool:
        if self.language:
            return self.language in ("sh", "bash", "console")
        return any(COMMANDS.match(line) or line in ("make", "inferometer") for line in self.text.splitlines())

    @property
    def not_run(self) -> str:
        """Why it is not run; "": it is."""
        if self.mark == "not run":
            return self.reason
        return "make's own" if all(line.startswith("make ") for line in self.text.splitlines()) else ""

    @property
    def exit_codes(self) -> tuple[int, ...]:
        codes = re.findall(r"\d+", self.mark) if self.mark.startswith("exits") else ["0"]
        return tuple(map(int, codes))


def blocks_of(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        fence = FENCE.match(lines[at])
        if fence is None:
            at += 1
            continue
        end = lines.index(fence[1], at + 1)
        before = [line for line in lines[:at] if line.strip()]
        mark = MARK.match(before[-1]) if before else None
        named = FILE_NAME.search(before[-2 if mark else -1]) if len(before) > 1 else None
        yield Block(
            page, at + 1, fence[2], "\n".join(lines[at + 1 : end]) + "\n",
            mark[1] if mark else "", mark[3] if mark else "", named[1] if named else "",
        )  # fmt: skip
        at = end + 1


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SCRIPTS = [block for block in BLOCKS if block.is_script]
RUN = [block for block in SCRIPTS if not block.not_run]
NOT_RUN = [block for block in SCRIPTS if block.not_run]


# --- what is run ----------------------------------------------------------------------------------


class Reader:
    """A folder in which a page's commands find what the page takes for granted, and the words changed to that end.

    Model files are the tiny stand-ins, under the names that the page has; `llama-server`, `vllm` and `sglang` are the
    shims that ship with the program, and a scripted server answers at the ports that pages name. Studies that pages
    name without making them are copies of one that was made here. No layer is put on a GPU, and engines have one
    thread. Numbers of prompts, tokens and trials are lowered. Nothing else is changed.
    """

    STUDIES: ClassVar = {"results/qwen-draft": 1, "results/w7900": 1, "w7900": 1, "results/rtx3090": 2, "rtx3090": 2}
    """Which of two: two that are compared must be two."""
    FOLDERS = ("/models/", "/rocm/", "/cuda/", "/venvs/", "/path/to/")
    SMALLER = (
        (r"num_prompts: (\d+)", lambda count: min(count, 2)),
        (r"max_tokens: (\d+)", lambda count: min(count, 8)),
        (r"\btrials: (\d+)", lambda count: count // 2),
        (r"--max-trials (\d+)", lambda count: min(count, 3)),
        (r"settle: (\d+)", lambda seconds: 0),
    )

    def __init__(self, page: Path, folder: Path, made: Callable[[int], Path], port: int) -> None:
        self.page, self.folder, self.port = page, folder, port
        own = [block for block in BLOCKS if block.page == page]
        text = "\n".join(block.text for block in own)
        scripts = "\n".join(block.text for block in own if block in RUN)
        self._binaries(text)
        self._models(text)
        for name, number in self.STUDIES.items():
            if re.search(rf"(?<!\S){name}(?![\w-])", scripts) and not re.search(rf"--out {name}(?![\w-])", scripts):
                shutil.copytree(made(number), folder / name)
        if "Python-Code-23k-ShareGPT.json" in text:
            turns = [("human", "one two three four five six"), ("gpt", "seven eight nine ten eleven twelve")]
            entries = [
                {"conversations": [{"from": who, "value": f"{text} {i}"} for who, text in turns]} for i in range(60)
            ]
            (folder / "Python-Code-23k-ShareGPT.json").write_text(json.dumps(entries))
        if "notes.md" in scripts:
            shutil.copy(ROOT / "tests" / "golden" / "seed.md", folder / "notes.md")
        (folder / "tests").symlink_to(ROOT / "tests")
        (folder / "studies").symlink_to(ROOT / "studies")

    def _binaries(self, text: str) -> None:
        bin_folder = self.folder / "bin"
        bin_folder.mkdir()
        inferometer = bin_folder / "inferometer"
        # One page starts the program as a user does; the others save its imports.
        program = (
            f"{shlex.quote(sys.executable)} -m inferometer" if self.page.name == "README.md" else warm_program.program()
        )
        inferometer.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        inferometer.chmod(0o755)
        (bin_folder / "python3").symlink_to(sys.executable)
        shim = llama_server_shim.write_binary(self.folder / "shim")
        server = bin_folder / "llama-server"
        server.write_text(f'#!/bin/sh\nexec {shlex.quote(str(shim))} -t 1 "$@"\n')
        server.chmod(0o755)
        for engine in ("vllm", "sglang"):
            openai_server_shim.write_binary(bin_folder / engine, engine)
        for path in re.findall(r"[\w./-]+/(?:llama-server|vllm|sglang)\b", self.changed(text)):
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(bin_folder / Path(path).name, self.folder / path)

    def _models(self, text: str) -> None:
        for name in re.findall(r"[\w./-]+\.gguf", self.changed(text)):
            small = re.search(r"draft|-[01]\.5B", name) is not None
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(standin_file("tiny", "draft" if small else "target"))

    def changed(self, text: str) -> str:
        for folder in self.FOLDERS:
            text = text.replace(folder, f"{folder[1:]}")
        text = re.sub(r"(--port |://[\w.]+:)(?:8000|8080)\b", rf"\g<1>{self.port}", text)
        text = re.sub(r"(?:CUDA|HIP)_VISIBLE_DEVICES", "GPU_OF_THE_READER", text)
        text = re.sub(r"(-ngl,? |gpu_layers: )\W?99\b\"?", r"\g<1>0", text)
        text = text.replace("context: 1024}", "context: 1024, threads: 1}")
        text = text.replace('"-t 2"', '"-t 1 -ub 64"').replace("-n 3 --max-tokens 16", "-n 3 --max-tokens 8 --rounds 2")
        for pattern, less in self.SMALLER:
            text = re.sub(pattern, lambda found, less=less: found[0].replace(found[1], str(less(int(found[1])))), text)
        return text

    def run(self, block: Block) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.changed(block.text)],
            cwd=self.folder,
            env=os.environ
            | {
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT / "src"),
                "BROWSER": "true",  # what opens a page in a browser opens none
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Studies 1 and 2, made when they are first asked for: two arms, of two trials each."""
    tiny = Arm(engine="embedded", model="standin:tiny", context=4096, threads=1)
    draft = msgspec.structs.replace(tiny, draft=Draft("standin:tiny", n_max=4))
    spec = Spec(arms={"baseline": tiny, "draft": draft}, workload=Builtin(2, 8), trials=2)

    @functools.cache
    def study(number: int) -> Path:
        folder = tmp_path_factory.mktemp("made") / f"study{number}"
        list(run_study(spec, folder))
        return folder

    return study


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ScriptedServer(inference_server(tokens=5)) as server:
        yield server.port


@pytest.mark.parametrize("page", sorted({block.page for block in RUN}), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run(page: Path, made: Callable[[int], Path], port: int, tmp_path: Path):
    reader = Reader(page, tmp_path, made, port)
    for block in BLOCKS:
        if block.page == page and block.file:
            (tmp_path / block.file).write_text(reader.changed(block.text))
        if block.page == page and block in RUN:
            done = reader.run(block)
            assert done.returncode in block.exit_codes, f"{block.place}\n{block.text}\n{done.stdout}{done.stderr}"


# --- what is not run ------------------------------------------------------------------------------


@functools.cache
def program() -> TyperGroup:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def commands() -> dict[str, TyperCommand]:
    return {name: command for name, command in program().commands.items() if isinstance(command, TyperCommand)}


def flags_of(command: TyperCommand | TyperGroup) -> set[str]:
    own = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    return own | {"-h", "--help"}


def problem(line: str, *, in_part: bool = False) -> str:
    """What is wrong with a command that is not run; "" if nothing. One that is shown `in_part` (as are those with `…`
    or `[--flag N]`) must only have a name and flags that are known."""
    try:
        words = shlex.split(re.sub(r"(^|\s)#.*", "", line))
    except ValueError as error:
        return f"no shell reads it: {error}"
    while words and re.fullmatch(r"\w+=\S*", words[0]):
        words = words[1:]
    if words[:1] == ["make"]:
        return "" if _is_target(words[1:]) else f"make knows no {words[1:]}"
    if words[:1] != ["inferometer"] or len(words) < 2:
        return ""
    name, *rest = words[1:]
    if name in flags_of(program()):
        return ""
    if name not in commands():
        return f"there is no command {name!r}"
    command = commands()[name]
    flags = [word.strip("[]").partition("=")[0] for word in rest if word.strip("[]").startswith("-")]
    unknown = [flag for flag in flags if flag not in flags_of(command) and not re.match(r"-\d", flag)]
    if unknown and not isinstance(command, PassingOn):
        return f"{name} knows no {unknown[0]}"
    if in_part or re.search(r"…|\[|\.\.\.", line):
        return ""
    try:
        command.make_context(name, spread_flags(rest), resilient_parsing=False)
    except typer.Exit:
        return ""
    except typer.TyperException as error:
        return str(error) or type(error).__name__
    return ""


def _is_target(words: list[str]) -> bool:
    targets = re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return all(word in targets or "=" in word for word in words)


def joined(text: str) -> list[str]:
    """The lines, those that end in a backslash with what follows."""
    return re.sub(r"\\\n\s*", "", text).splitlines()


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: f"{block.place} not run: {block.not_run}")
def test_what_is_not_run_says_why_and_is_known_to_the_program(block: Block):
    said = {line: problem(line) for line in joined(block.text)}
    assert not any(said.values()), said


def test_commands_within_a_sentence_are_known_to_the_program():
    said: dict[str, str] = {}
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for span in re.findall(r"(?<!`)`((?:inferometer|make) [^`\n]+)`(?!`)", prose):
            if said_of := problem(span, in_part=True):
                said[f"{page.name}: {span}"] = said_of
    assert not said


def test_a_problem_is_found_where_there_is_one():
    assert problem("inferometer rum study.yaml") == "there is no command 'rum'"
    assert problem("inferometer run study.yaml --worker 2") == "run knows no --worker"
    assert "valid int" in problem("inferometer run study.yaml --workers many")
    assert problem("inferometer run [--worker 2] …") == "run knows no --worker"
    assert problem("make tests").startswith("make knows no")
    assert problem("inferometer run study.yaml --workers 2  # a comment") == ""
    assert problem("make test ARGS='-k plan'") == ""


# --- study files and links ------------------------------------------------------------------------

STUDY_FILES = [block for block in BLOCKS if block.language == "yaml" and block.mark != "no study file"]


@pytest.mark.parametrize("block", STUDY_FILES, ids=lambda block: block.place)
def test_a_study_file_in_a_document_is_one(block: Block):
    has_arms = re.search(r"^arms:", block.text, re.MULTILINE)
    if re.search(r"^search:", block.text, re.MULTILINE):
        parse_search(block.text, block.place)
        return
    parse(
        block.text if has_arms else f"{block.text}arms: {{a: {{engine: external, url: 'http://h:1'}}}}\n", block.place
    )


def test_links_lead_to_files_of_the_repository():
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not dead


MODULE = re.compile(
    r"(?<![\w./-])((?:[\w{},]+/)+[\w{},]+\.(?:py|sh|toml|jinja)|(?:src|tests|tools|benchmarks)/[\w./-]*\w/?)"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_of_the_repository_in_a_document_exist(page: Path):
    """`src/…`, `tests/…`, `tools/…`, `benchmarks/…`, and `package/module.py` below src/inferometer."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    spans = [span for span in re.findall(r"`([^`\n]+)`", prose) if "<" not in span]
    paths = [path for span in spans for path in MODULE.findall(span)]
    assert [path for path in paths if not _is_path(path)] == []


def _is_path(path: str) -> bool:
    return any((base / path).exists() for base in (ROOT, ROOT / "src" / "inferometer"))


def test_the_architecture_has_the_layers_that_the_linter_enforces():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [re.findall(r"`(\w+)`", line.split(":")[0]) for line in text.splitlines() if line.startswith("- `")]
    rows = [row for row in rows if row]  # a name with a dot is that of an entry point
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    assert [set(row) for row in rows] == [set(re.findall(r"\w+", layer)) for layer in reversed(layers)]


SETS = [name for name, place in WORKLOADS.items() if place.startswith("inferometer.quality.")]
SAMPLED = [name for name in QUANTITIES if name != TURN_NS]  # the load samples turns, no probe does


@pytest.mark.parametrize(
    ("page", "names"),
    [("engines.md", list(ENGINES)), ("quality.md", SETS), ("probes.md", SAMPLED)],
    ids=["engines", "problem sets", "sampled quantities"],
)
def test_every_member_is_described_in_its_document(page: str, names: list[str]):
    text = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


# --- the site -------------------------------------------------------------------------------------


def test_each_page_has_a_place_in_the_navigation():
    navigation = (ROOT / "tools" / "build_site.py").read_text()
    pages = [str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "decisions"]
    assert [page for page in pages if f'"{page}"' not in navigation] == []


def test_the_reference_has_each_command_field_metric_and_column():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "reference.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for line in (
        *(f"## inferometer {name}" for name in commands()),
        "| `--resume` | Continue the study in --out: run only missing and failed trials. |",
        "| `engine` | text | must be given |",
        "| `draft` | [Draft](#draft) or none | none |",
        "| `n_max` | whole number or none | none |",
        "## Poisson: `schedule: {kind: poisson}`",
        "| `burstiness` | number | `1.0` |",
        "| `median_ttft_ms` | Median TTFT (ms) | ms | lower | ttft |",
        *(
            f"| `{column.name}` | {column.kind} | {column.description} |"
            for column in (*METRIC_COLUMNS, *REQUEST_COLUMNS, *EVENT_COLUMNS, EVENT_TEXT)
        ),
    ):
        assert line in done.stdout.splitlines(), line
