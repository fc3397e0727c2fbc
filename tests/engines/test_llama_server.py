import socket
import sys
from pathlib import Path

import msgspec
import pytest

from inferometer.base.errors import EngineNotReady, RequestWrong
from inferometer.core.spec import Arm, Draft
from inferometer.engines.command_line import Address, listening_flags
from inferometer.engines.help_text import arguments_of, complaint
from inferometer.engines.llama_server import LlamaServer, devices_listed, draft_flags, own_flags
from inferometer.net.http_client import ask, server_at

RECORDED = Path(__file__).parent / "recorded"
HELP_B11434 = """
--spec-draft-n-max N                    number of tokens to draft for speculative decoding (default: 3)
--spec-draft-n-min N                    minimum number of draft tokens to use for speculative decoding
--spec-draft-p-min, --draft-p-min P     minimum speculative decoding probability (greedy) (default: 0.00)
--spec-draft-ngl, -ngld, --gpu-layers-draft, --n-gpu-layers-draft N
--spec-draft-model, -md, --model-draft FNAME
--draft, --draft-n, --draft-max N       the argument has been removed. use --spec-draft-n-max or --spec-ngram-mod-n-max
--spec-type none,draft-simple,draft-eagle3,draft-mtp
"""
HELP_B4500 = """
--draft-max, --draft, --draft-n N       number of tokens to draft for speculative decoding (default: 16)
--draft-min, --draft-n-min N            minimum number of draft tokens to use for speculative decoding (default: 5)
--draft-p-min P                         minimum speculative decoding probability (greedy) (default: 0.9)
-ngld, --gpu-layers-draft, --n-gpu-layers-draft N
-md,   --model-draft FNAME              draft model for speculative decoding (default: unused)
"""
DRAFT = Draft(model="d.gguf", n_max=24, n_min=1, p_min=0.6, gpu_layers=99)


def test_todays_builds_are_told_the_speculation_type():
    flags = (
        "-md d.gguf --spec-type draft-simple --spec-draft-n-max 24 --spec-draft-n-min 1 --spec-draft-p-min 0.6 -ngld 99"
    )
    assert " ".join(draft_flags(DRAFT, HELP_B11434)) == flags


def test_older_builds_are_told_in_their_own_words():
    flags = "-md d.gguf --draft-max 24 --draft-min 1 --draft-p-min 0.6 -ngld 99"
    assert " ".join(draft_flags(DRAFT, HELP_B4500)) == flags


def test_what_a_draft_does_not_say_is_left_to_the_engine():
    assert draft_flags(Draft(model="d.gguf"), HELP_B11434) == ["-md", "d.gguf", "--spec-type", "draft-simple"]


def test_the_numbers_of_a_draft_are_within_the_speculation_type_of_ik_llama():
    flags = draft_flags(DRAFT, "  --spec-type SPEC[:k=v,...]      canonical speculative stage entry")
    assert flags[:4] == ["-md", DRAFT.model, "--spec-type", "draft:n_max=24,n_min=1,p_min=0.6"]


def test_gpu_layers_of_a_draft_are_spelled_as_help_names_them():
    assert draft_flags(Draft(model="d", gpu_layers=1), "--spec-draft-ngl N")[-2:] == ["--spec-draft-ngl", "1"]


@pytest.mark.parametrize(
    ("args", "flags"),
    [
        ((), ["-m", "m.gguf", "--host", "127.0.0.1", "--port", "5000"]),
        (("--port", "81", "--host", "0.0.0.0"), ["-m", "m.gguf"]),
        (("--model", "other.gguf"), ["--host", "127.0.0.1", "--port", "5000"]),
    ],
)
def test_only_what_the_arm_does_not_say_is_added(args: tuple[str, ...], flags: list[str]):
    arm = Arm(engine="llama-server", model="m.gguf", args=args)
    assert own_flags(arm, listening_flags(arm, Address("127.0.0.1", 5000)), "") == flags


def test_a_port_and_a_model_of_the_users_own_are_used(shim: str, tiny_pair: tuple[Path, Path], tmp_path: Path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    args = ("-m", str(tiny_pair[0]), "--host", "0.0.0.0", "--port", str(port), "-t", "1", "-c", "512")
    arm = Arm(engine="llama-server", model="not there.gguf", binary=shim, args=args)
    with LlamaServer().start(arm, tmp_path / "log") as endpoint:
        assert endpoint.base_url == f"http://127.0.0.1:{port}"
        facts = {fact.name: fact.value for fact in endpoint.facts}
        assert facts["model_file"] == tiny_pair[0].name
        assert facts["engine_command"] == " ".join([shim, "-lv", "4", *args])
        with pytest.raises(RequestWrong, match="already listens"):
            LlamaServer().start(arm, tmp_path / "log")


def test_a_host_of_ipv6_is_asked_at_its_address(shim: str, tiny_pair: tuple[Path, Path], tmp_path: Path):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        args = ("--host", "::1", "--port", str(port), "-t", "1", "-c", "512")
        arm = Arm(engine="llama-server", model=str(tiny_pair[0]), binary=shim, args=args)
        with pytest.raises(RequestWrong, match="already listens"):
            LlamaServer().start(arm, tmp_path / "log")
    with LlamaServer().start(arm, tmp_path / "log") as endpoint:
        assert endpoint.base_url == f"http://[::1]:{port}"


def test_a_draft_is_in_force(shim: str, tiny_pair: tuple[Path, Path], tmp_path: Path):
    target, draft = map(str, tiny_pair)
    setting = Draft(model=draft, n_max=4, n_min=1, p_min=0.1, gpu_layers=0)
    arm = Arm(engine="llama-server", model=target, binary=shim, draft=setting, args=("-t", "1", "-c", "512"))
    question = {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 24, "temperature": 0}
    with LlamaServer().start(arm, tmp_path / "log") as endpoint:
        answer = ask(server_at(endpoint.base_url, {}), endpoint.path, body=question, timeout_s=60).json
    assert answer["timings"]["draft_n"] > 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--ctx-sise", "512"), "--ctx-sise is not an argument of this build; did you mean --ctx-size?"),
        (
            ("-t", "1", "--draft-max", "4"),
            "--draft-max is not an argument of this build; did you mean --spec",
        ),
        (("-c",), "-c takes a value in this build (VALUE)"),
    ],
)
def test_an_argument_that_the_binary_does_not_know_is_refused_before_anything_starts(
    shim: str, tiny_pair: tuple[Path, Path], args: tuple[str, ...], message: str
):
    arm = Arm(engine="llama-server", model=str(tiny_pair[0]), binary=shim, args=args)
    with pytest.raises(RequestWrong) as caught:
        LlamaServer().check(arm)
    assert message in str(caught.value)
    assert "`command:`" in str(caught.value)


def test_the_users_flags_reach_the_binary_and_its_complaint_the_user(
    shim: str, tiny_pair: tuple[Path, Path], tmp_path: Path
):
    arm = Arm(engine="llama-server", model=str(tiny_pair[0]), binary=shim, args=("--flash-attn", "perhaps"))
    with pytest.raises(EngineNotReady) as caught, LlamaServer().start(arm, tmp_path / "log"):
        pass
    assert "error while handling argument '--flash-attn'" in str(caught.value)


def test_a_key_of_the_users_is_sent_and_not_shown(tiny_pair: tuple[Path, Path], tmp_path: Path):
    binary = tmp_path / "llama-server"
    binary.write_text(f"""#!{sys.executable}
import http.server, sys
if "--version" in sys.argv:
    sys.exit("version: 1 (fake)")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        known = self.headers["Authorization"] == "Bearer s3cret"
        body = b'{{"choices": [{{"text": "one"}}]}}' if known else b"Invalid API key"
        self.send_response(200 if known else 401); self.send_header("Content-Length", str(len(body)))
        self.end_headers(); self.wfile.write(body)
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
""")
    binary.chmod(0o755)
    arm = Arm(
        engine="llama-server", model=str(tiny_pair[0]), binary=str(binary), api="openai", args=("--api-key", "s3cret,b")
    )
    with LlamaServer().start(arm, tmp_path / "log") as endpoint:
        assert endpoint.headers == {"Authorization": "Bearer s3cret"}
        assert "s3cret" not in str(endpoint.facts)


@pytest.mark.parametrize(
    ("binary", "message"),
    [
        ("no-such-llama-server", "it is not on PATH"),
        ("/no/such/llama-server", "there is no such file"),
        ("/", "is a folder"),
        (__file__, "chmod"),
        ("true", "is not a llama-server: it answers --version with"),
    ],
)
def test_a_binary_that_cannot_be_used_says_what_to_do(
    binary: str, message: str, tiny_pair: tuple[Path, Path], tmp_path: Path
):
    if binary == __file__:  # a file of which it is known that it may not be executed
        binary = str(tmp_path / "llama-server")
        Path(binary).write_text("")
    arm = Arm(engine="llama-server", model=str(tiny_pair[0]), binary=binary)
    with pytest.raises(RequestWrong) as caught:
        LlamaServer().check(arm)
    assert message in str(caught.value)


def test_a_build_whose_driver_is_absent_is_refused_with_the_reason(tiny_pair: tuple[Path, Path], tmp_path: Path):
    binary = tmp_path / "llama-server"
    said = "error while loading shared libraries: libcuda.so.1: cannot open shared object file: No such file"
    binary.write_text(f"#!/bin/sh\necho 'llama-server: {said}' >&2\nexit 127\n")  # as the dynamic linker words it
    binary.chmod(0o755)
    with pytest.raises(RequestWrong) as caught:
        LlamaServer().check(Arm(engine="llama-server", model=str(tiny_pair[0]), binary=str(binary)))
    assert said in str(caught.value)
    assert "the GPU's driver is absent (libcuda, libamdhip64)" in str(caught.value)


def test_layers_on_a_gpu_that_the_binary_does_not_see_are_refused(tiny_pair: tuple[Path, Path], tmp_path: Path):
    help_text = (RECORDED / "b11434-help.txt").read_text()
    binary = tmp_path / "llama-server"
    (tmp_path / "help").write_text(help_text)
    binary.write_text(f"""#!/bin/sh
case "$1" in
  --version) echo "version: 0.6.0-dev (build 11434, commit unknown)";;
  --help) cat {tmp_path}/help;;
  --list-devices) printf 'Available devices:\\n  (none)\\n';;
esac
""")
    binary.chmod(0o755)
    arm = Arm(engine="llama-server", model=str(tiny_pair[0]), binary=str(binary), args=("-ngl", "99"))
    with pytest.raises(RequestWrong, match=r"-ngl 99 asks for layers on a GPU, and .* sees none"):
        LlamaServer().check(arm)
    LlamaServer().check(msgspec.structs.replace(arm, args=("-ngl", "auto")))
    LlamaServer().check(msgspec.structs.replace(arm, args=("-ngl", "99", "--rpc", "other:50052")))
    draft = Draft(model=str(tiny_pair[1]), gpu_layers=99)
    with pytest.raises(RequestWrong, match=r"draft\.gpu_layers 99 asks"):
        LlamaServer().check(msgspec.structs.replace(arm, args=(), draft=draft))


def test_devices_are_read_from_what_the_binary_lists():
    text = "ggml_cuda_init: found 1 CUDA devices\nAvailable devices:\n  CUDA0: NVIDIA H200 (143771 MiB, 143 MiB free)\n"
    assert devices_listed(text) == ["CUDA0: NVIDIA H200 (143771 MiB, 143 MiB free)"]
    assert devices_listed("Available devices:\n  (none)\n") == devices_listed("Available devices:\n") == []


@pytest.mark.parametrize("build", ["b4295", "hjc4869-b5163", "4227c9b", "b9093", "b11434"])
def test_each_build_knows_the_draft_as_it_is_spelled_for_it(build: str):
    help_text = (RECORDED / f"{build}-help.txt").read_text()
    arm = Arm(engine="llama-server", model="m.gguf", draft=DRAFT)
    flags = own_flags(arm, ["--host", "127.0.0.1", "--port", "5000"], help_text)
    assert complaint(flags, arguments_of(help_text)) == ""
    assert flags.count("--metrics") == 1, "what the engine counts itself is sampled"
    assert ("draft-simple" in flags, "--spec-draft-n-max" in flags, "-lv" in flags) == {
        "b4295": (False, False, False),
        "hjc4869-b5163": (False, False, False),
        "4227c9b": (False, False, False),
        "b9093": (False, True, False),  # the new names, and no --spec-type for a draft model yet
        "b11434": (True, True, True),
    }[build]
