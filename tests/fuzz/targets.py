"""What reads bytes that strangers wrote, and what must hold of it whatever these are?

Each target takes bytes and returns. What a user is told of (an InferometerError) is no find; any other exception is,
and so is more time or memory than tests/fuzz/test_fuzz.py and tools/fuzz.py allow. Both run every target over the bytes
in corpus/TARGET, from which they also begin.
"""

import array
import contextlib
import io
import itertools
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from inferometer.base.errors import InferometerError, SpecInvalid
from inferometer.base.text import sanitize
from inferometer.core.plan import PlanItem
from inferometer.core.record import RequestRecord
from inferometer.core.redaction import redacted_spec, redactor_for
from inferometer.core.request import user_request
from inferometer.core.spec import API_PATHS
from inferometer.core.spec_file import to_yaml
from inferometer.engines import effective_settings, readiness, server_facts
from inferometer.engines.catalog import metric_names
from inferometer.engines.model_files import _own_name
from inferometer.foreign import llama_bench_output, readers
from inferometer.llama_bench.gguf_facts import header_of, model_facts
from inferometer.load import answer_decoding
from inferometer.load.answer_decoding import decode_record
from inferometer.load.arrivals import arrivals
from inferometer.load.event_decoding import EventReader
from inferometer.load.sse import EventTooLarge, events
from inferometer.load.wire import Exchange
from inferometer.net.http_client import HttpAnswer, _excerpt
from inferometer.net.target import target_of
from inferometer.probes.engine_metrics import read_page
from inferometer.results.read import read_study
from inferometer.store import Store
from inferometer.study.study_file import parse_study as parse
from inferometer.workloads import sharegpt, trace
from inferometer.workloads.sharegpt import ShareGpt

CORPUS = Path(__file__).parent / "corpus"
ITEM = PlanItem(0, user_request("r", "hello"), due_ns=None, measured=True)


def answer(data: bytes) -> None:
    """A server's answer from the wire; the first bytes define where the reads were cut. The fast pass and the slow one
    decode the same record."""
    cuts, raw = data[:4], data[4:]
    edges = sorted({len(raw) * cut // 256 for cut in cuts} | {0, len(raw)})
    lengths = array.array("I", [b - a for a, b in itertools.pairwise(edges)])
    read_ns = array.array("q", range(10, 10 + len(lengths)))
    for outcome, dialect in itertools.product(("complete", "eof"), API_PATHS):
        exchange = Exchange(0, outcome, 1, 2, 3, 99, raw, lengths.tobytes(), read_ns.tobytes())
        arrived = arrivals(exchange)
        found = decode_record(exchange, arrived, ITEM, dialect, 0)
        assert (found.model or "").isprintable()
        assert found.error.isprintable()
        _storable(found)
        if answer_decoding._decode_uniform_stream(exchange, arrived, EventReader(), dialect, 0) is not None:
            with _without_fast_pass():
                assert found == decode_record(exchange, arrived, ITEM, dialect, 0)


@contextlib.contextmanager
def _without_fast_pass() -> Iterator[None]:
    fast_pass = answer_decoding._decode_uniform_stream
    answer_decoding._decode_uniform_stream = lambda *_: None
    try:
        yield
    finally:
        answer_decoding._decode_uniform_stream = fast_pass


def _storable(record: RequestRecord) -> None:
    """Every number is one that SQLite holds."""
    scalars = [value for value in msgspec.structs.astuple(record) if isinstance(value, int)]
    assert all(-(2**63) <= value < 2**63 for value in scalars)
    msgspec.json.encode((record.usage, record.timings))


def stream(data: bytes) -> None:
    """Server-sent events in a sound frame of HTTP: one chunk for each line of `data` that begins with |."""
    pieces = data.split(b"\n|")
    answer(
        b"\x40\x80\xa0\xff"
        + b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"" + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"
    )


def sse(data: bytes) -> None:
    """Events do not depend on where the bytes were cut."""
    cut, text = data[:1], data[1:]
    step = 1 + (cut[0] if cut else 0) % 16
    pieces = [(at, text[at : at + step]) for at in range(0, len(text), step)]
    with contextlib.suppress(EventTooLarge):
        in_pieces = [(name, found) for _, name, found in events(pieces)]
        assert in_pieces == [(name, found) for _, name, found in events([(0, text)])]


def told_by_server(data: bytes) -> None:
    """What a server answers to small questions: JSON, a page of metrics, a log."""
    answered = HttpAnswer(200, data, sanitize(_excerpt(data, "")))
    said = answered.json
    readiness.token_came(answered, "openai-chat")
    text = data.decode(errors="replace")
    facts = (
        *readiness.props_facts(said),
        *server_facts.context_facts(said),
        *server_facts.vllm_facts(text),
        *(server_facts.sglang_facts(said) if isinstance(said, dict) and "version" in said else ()),
        *effective_settings.facts_when_ready(text, said, said),
        *effective_settings.facts_at_end(text, ()),
    )
    assert all(fact.value.isprintable() for fact in facts)
    read_page(text, metric_names())


def share_gpt(data: bytes) -> None:
    sharegpt.sample(sharegpt.conversation_pairs(data, "x"), ShareGpt("x", num_prompts=3), 1, None)


def trace_rows(data: bytes) -> None:
    for row in trace.rows(data, "x"):
        assert abs(row.recorded_ns) < 2**63 * 10 and 0 <= row.prompt_tokens <= trace.MOST_TOKENS


def foreign(data: bytes) -> None:
    """Every reader of other tools' files, and llama-bench's rows."""
    text = data.decode(errors="replace")
    for reader in (lambda text, _: llama_bench_output.rows_of(text), *readers.READERS.values()):
        with contextlib.suppress(InferometerError):
            reader(text, "x")


def spec_yaml(data: bytes) -> None:
    """What parses comes back from its own file, and is kept without its secrets, which stays so."""
    spec = parse(data.decode(errors="replace"), "x")
    assert parse(to_yaml(spec), "x") == spec
    shown = redacted_spec(spec)
    assert redacted_spec(shown) == shown
    try:
        assert parse(to_yaml(shown), "x") == shown
    except SpecInvalid as error:
        raise AssertionError("what is kept of a study cannot be read") from error
    kept = to_yaml(shown)
    assert not any(
        secret in kept and secret.isalnum() for secret in redactor_for(spec.arms.values()).secrets if len(secret) > 24
    )


def gguf(data: bytes) -> None:
    _own_name(data)
    facts = model_facts([header_of(io.BytesIO(data), "x")])
    assert facts.architecture.isprintable() and facts.size_label.isprintable()


def address(data: bytes) -> None:
    """A server's URL, with a proxy's after a blank."""
    url, _, proxy = data.decode(errors="replace").partition(" ")
    target_of(url, {"http_proxy": proxy, "https_proxy": proxy} if proxy else {})


def store(data: bytes) -> None:
    """A study.db of altered bytes."""
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        (Path(folder) / "study.db").write_bytes(data)
        (Path(folder) / "study.yaml").write_text(SMALL_STUDY)
        Store.open(Path(folder)).close()
        read_study(Path(folder))


_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
SMALL_STUDY = "arms: {a: {engine: external, url: 'http://h'}}\n"

TARGETS: dict[str, Callable[[bytes], None]] = {
    "address": address,
    "answer": answer,
    "foreign": foreign,
    "gguf": gguf,
    "sharegpt": share_gpt,
    "spec": spec_yaml,
    "sse": sse,
    "store": store,
    "stream": stream,
    "told": told_by_server,
    "trace": trace_rows,
}


def run(name: str, data: bytes) -> None:
    """Raises for a find alone."""
    with contextlib.suppress(InferometerError):
        TARGETS[name](data)


def seeds(name: str) -> list[bytes]:
    """The kept corpus of a target, by file name."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def shrunk_database(path: Path) -> bytes:
    """A database with small pages, so that a change of a byte is likely to hit something."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("PRAGMA page_size = 512")
        database.execute("VACUUM")
    return path.read_bytes()
