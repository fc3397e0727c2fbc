"""Pages in recorded/metrics: its README says which were recorded and which were written after documentation."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferometer.engines.catalog import metric_names
from inferometer.net.http_client import server_at
from inferometer.probes import engine_metrics
from inferometer.probes.engine_metrics import EngineMetrics

RECORDED = Path(__file__).parent / "recorded" / "metrics"
LLAMA_CPP = (RECORDED / "llama-cpp-b11549-draft.txt").read_text()


def read_page(page: str) -> dict[str, float]:
    return engine_metrics.read_page(page, metric_names())


def test_llama_cpp_counts_the_draft_as_its_timings_do():
    assert read_page(LLAMA_CPP) == {
        "spec_draft_tokens_total": 32,
        "spec_accepted_tokens_total": 31,
        "spec_steps_total": 8,
        "requests_running": 0,
        "requests_waiting": 0,
    }


def test_ik_llama_counts_no_drafts():
    assert read_page((RECORDED / "ik_llama-8337e4c-draft.txt").read_text()) == {
        "kv_cache_usage_percent": pytest.approx(3.41797),
        "requests_running": 0,
        "requests_waiting": 0,
    }


def test_vllm_engines_are_added_and_the_fullest_cache_counts():
    assert read_page((RECORDED / "vllm-0.32.txt").read_text()) == {
        "spec_draft_tokens_total": 6170,
        "spec_accepted_tokens_total": 4156,
        "spec_steps_total": 1234,
        "kv_cache_usage_percent": 37.5,
        "requests_running": 4,
        "requests_waiting": 2,
    }


def test_a_real_vllm_counts_its_drafts_from_the_prompt():
    assert read_page((RECORDED / "vllm-0.32.0-cpu-ngram.txt").read_text()) == {
        "spec_draft_tokens_total": 8,
        "spec_accepted_tokens_total": 6,
        "spec_steps_total": 2,
        "kv_cache_usage_percent": 0,
        "requests_running": 0,
        "requests_waiting": 0,
    }


def test_sglang_counts_steps_and_each_request_once():
    assert read_page((RECORDED / "sglang-0.5.txt").read_text()) == {
        "spec_steps_total": 412,
        "kv_cache_usage_percent": pytest.approx(28.0),
        "requests_running": 4,
        "requests_waiting": 7,
    }


def test_older_names_are_known_and_nan_is_unknown():
    assert read_page("llamacpp:kv_cache_usage_ratio 0.25\n") == {"kv_cache_usage_percent": 25}
    assert read_page('vllm:gpu_cache_usage_perc{model_name="m"} 0.5\n') == {"kv_cache_usage_percent": 50}
    assert read_page("sglang:token_usage NaN\n") == {}


class Page(http.server.BaseHTTPRequestHandler):
    status, body = 200, LLAMA_CPP
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = self.path == "/metrics"
        body = self.body.encode()
        self.send_response(self.status if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[tuple[type[Page], EngineMetrics]]:
    """A server of one page, whose `status` and `body` may be set, and a probe that asks it."""
    handler = type("OnePage", (Page,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        probe = EngineMetrics(server_at(f"http://127.0.0.1:{server.server_port}", {}), metric_names())
        yield handler, probe
        probe.close()
        server.shutdown()
        thread.join()


def test_a_server_is_asked_and_what_it_does_not_tell_is_said(page: tuple[type[Page], EngineMetrics]):
    _, probe = page
    samples = probe.read(7)
    assert [(s.at_ns, s.source, s.quantity, s.value) for s in samples][:2] == [
        (7, "/metrics", "spec_draft_tokens_total", 32.0),
        (7, "/metrics", "spec_accepted_tokens_total", 31.0),
    ]
    assert probe.reason == ""
    assert [(fact.name, fact.value) for fact in probe.facts()] == [
        ("no_kv_cache_usage_percent", "the server's /metrics does not contain it")
    ]


def test_a_server_that_gives_no_page_is_a_reason_with_the_way_out(page: tuple[type[Page], EngineMetrics]):
    handler, probe = page
    handler.status, handler.body = 501, '{"error": {"message": "This server does not support metrics endpoint."}}'
    assert probe.read(0) == []
    assert "status 501: This server does not support metrics endpoint." in probe.reason
    assert "--metrics" in probe.reason


def test_a_page_of_something_else_is_a_reason(page: tuple[type[Page], EngineMetrics]):
    handler, probe = page
    handler.body = "process_cpu_seconds_total 12.5\n"
    assert probe.read(0) == []
    assert "none of the known metrics" in probe.reason


def test_a_question_without_an_answer_is_a_reading_less():
    probe = EngineMetrics(server_at("http://127.0.0.1:9", {}), metric_names())
    assert probe.read(0) == []
    assert probe.reason == ""
    (fact,) = probe.facts()
    assert fact.name == "engine_metrics_missed"
    assert fact.value.startswith("1 readings: ")
