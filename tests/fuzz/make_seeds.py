"""How was the first corpus made? `PYTHONPATH=src:tests/fuzz python tests/fuzz/make_seeds.py`; finds are added by hand.

The recorded answers and files are those that the other tests use; the rest is written here.
"""

import struct
import sys
import tempfile
from pathlib import Path

from targets import CORPUS, SMALL_STUDY, shrunk_database

from inferometer.core.plan import Plan, PlanItem
from inferometer.core.record import Event, Fact, Finding, RequestRecord, Sample, ServerTimings, TokenUsage
from inferometer.core.request import user_request
from inferometer.core.spec_file import parse
from inferometer.store import Store
from inferometer.testing.scripted_server import STREAM_END, STREAM_HEAD, chunk, delta, event

TESTS = Path(__file__).parents[1]


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def string(key: str, value: str) -> bytes:
    return text(key) + struct.pack("<I", 8) + text(value)


def number(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", 4, value)


def tensor(name: str, *shape: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, 0)


def gguf_header() -> bytes:
    tokens = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3) + text("a") + text("b") + text("c")
    scores = text("tokenizer.ggml.scores") + struct.pack("<IIQ3f", 9, 6, 3, 1.0, 2.0, 3.0)
    values = [
        string("general.architecture", "llama"), string("general.name", "small"), string("general.size_label", "1K"),
        number("general.file_type", 0), number("llama.block_count", 1), number("llama.embedding_length", 8),
        number("llama.attention.head_count", 2), number("llama.attention.head_count_kv", 1), tokens, scores,
    ]  # fmt: skip
    tensors = [tensor("token_embd.weight", 8, 3), tensor("blk.0.ffn_up.weight", 8, 16), tensor("output.weight", 8, 3)]
    return b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + b"".join(values + tensors)


def database() -> bytes:
    record = RequestRecord(
        index=0, request_id="r", measured=True, outcome="ok", due_ns=5, sent_ns=6, done_ns=90, first_byte_ns=20,
        events=(Event(20, "role"), Event(30, "text", "hi", 3), Event(31, "done")), status=200, finish_reason="stop",
        usage=TokenUsage(7, 1, 2), timings=ServerTimings(predicted_n=1, predicted_ms=2.5), model="m", prompt_tokens=6,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "s", parse(SMALL_STUDY, "x"))
        store.set_meta("machine", (Fact("cpu", "c", "s"),))
        store.set_meta("plan", Plan((PlanItem(0, user_request("r", "hello"), None, True),), 1, 1))
        store.set_meta("notes", ("n",))
        trial = store.begin_trial("a", 1, False, "2026-01-01T00:00:00+00:00")
        store.set_plan_started(trial, 5)
        store.add_record(trial, record)
        store.add_samples(trial, [Sample(5, "pss", "pss_bytes", 1e6, 7)])
        store.end_trial(trial, "done", "", [Fact("engine", "external", "the arm")], [Finding("note", "client", "m")])
        store.close()
        return shrunk_database(Path(folder) / "s" / "study.db")


CHAT = [event(delta(role="assistant")), event(delta("a")), event(delta(" é🙂")), event(delta(finish="stop"))]
TIMED = event(
    {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}, "timings": {"predicted_n": 2, "draft_n": 1}}
)
MANY = [*CHAT, *[event(delta(word)) for word in " of the same form".split()], TIMED, event("[DONE]")]
MOONCAKE = (
    b'{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n'
    b'{"timestamp": 27, "input_length": 600, "output_length": 9, "hash_ids": [1, 3]}\n'
)
BURST_GPT = (
    b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n"
)
STUDY = b"""
name: a study
workload: {kind: trace, path: t.jsonl, num_prompts: 5}
schedule: {kind: replay, speed: 2}
sampling: {temperature: 0.5, extra_body: {top_k: 1, api_key: sesame-open}}
trials: 3
until: "\xc2\xb12%"
max_trials: 9
settle: {temperature_c: 3}
arms:
  a: &a {engine: llama-server, model: m.gguf, args: [-ngl, 99, --api-key, sesame-open, -fa, on], env: {HF_TOKEN: s}}
  b: {base: a, draft: {model: d.gguf, n_max: 4, p_min: 0.5}}
  c: {engine: command, shell: true, command: "K=1 server --api-key 'sesame open' --port {port}"}
  d: {engine: external, url: "https://h:1/x", path: "/v1/completions?sig=sesame-open", api: openai}
  e: *a
"""


def recorded(name: str, start: int = 0, most: int = 6000) -> bytes:
    return (TESTS / name).read_bytes()[start : start + most]


def seeds() -> dict[str, list[bytes]]:
    plain = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    error = b'HTTP/1.1 429 No\r\nRetry-After: 3\r\nContent-Length: 29\r\n\r\n{"error": {"message": "busy"}}'
    return {
        "address": [
            b"http://[::1%25eth0]:80/v1",
            b"unix:///run/s.sock",
            b"https://h\xc3\xa4.example http://u:p@proxy:1",
        ],
        "answer": [
            b"\x10\x20\x80\xf0" + STREAM_HEAD + b"".join(map(chunk, MANY)) + STREAM_END,
            b"\x10\x20\x80\xf0" + plain + b"".join(MANY),
            b"\x00\x01\x02\x03" + error,
            b"\x00\x01\x02\x03" + recorded("load/recorded/llama-cpp-b11549-chat-draft.http"),
        ],
        "stream": [
            b"\n|".join(MANY),
            b"\n|".join(piece.replace(b"\n", b"\r\n") for piece in MANY),
            b'event: error\ndata: {"message": "no"}\n\n\n|error: {"code": 500}\n\n',
            event({"choices": [{"text": "a", "token_ids": [5, 6]}], "usage": {"completion_tokens": 2}}),
            event({"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}}]}),
        ],
        "sse": [b"\x03" + b"".join(MANY), b"\x00: c\r\ndata: a\r\rdata:b\ndata\n\nevent: e\r\nid: 1\ndata: c\n"],
        "told": [
            b'{"build_info": "b1", "model_path": "m", "total_slots": 1, "default_generation_settings": {"n_ctx": 512}}',
            b'{"data": [{"id": "m", "max_model_len": 4096}], "version": "0.5", "speculative_algorithm": null}',
            b'{"choices": [{"message": {"content": "a"}}], "usage": {"completion_tokens": 1}}',
            b'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5\nvllm:num_requests_running{engine="0"} 1.0\n',
            recorded("engines/recorded/b11434-draft.log", most=5000),
        ],
        "sharegpt": [
            b'[{"id": "1", "conversations": [{"from": "human", "value": "hello you"}, {"from": "gpt", "value": "hi"}]}]'
        ],
        "trace": [MOONCAKE, BURST_GPT],
        "foreign": [
            recorded("formats/recorded/llama-bench-b11434.json"),
            recorded("formats/recorded/llama-bench-b11434.jsonl", most=1500),
            recorded("formats/recorded/llama-bench-b11434.md", most=2000),
        ],
        "spec": [STUDY, SMALL_STUDY.encode()],
        "gguf": [gguf_header()],
        "store": [database()],
    }


def main() -> None:
    for name, found in seeds().items():
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(found):
            (CORPUS / name / f"seed-{number}").write_bytes(data)
    total = sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file())
    sys.stdout.write(f"{total} bytes in {CORPUS}\n")


if __name__ == "__main__":
    main()
