"""Study specification: arms, workload, schedule and settings as types."""

import math
from typing import Any, Literal

import msgspec

from inferometer.core.schedule import Closed, Schedule
from inferometer.core.workload_settings import Builtin, WorkloadSettings

Api = Literal["openai-chat", "openai"]
"""`openai-chat`: /v1/chat/completions; `openai`: /v1/completions."""

API_PATHS: dict[Api, str] = {"openai-chat": "/v1/chat/completions", "openai": "/v1/completions"}

OnFailure = Literal["next", "retry", "stop"]

Order = Literal["auto", "requests", "trials"]

PRIMARY_METRIC = "output_throughput"
"""The default primary metric of a study."""


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A draft model for speculative decoding. None: the engine's default.

    `n_max`, `n_min`: the most and fewest tokens drafted per step. `p_min`: drafting stops at a token less likely than
    this. `gpu_layers`: the number of its layers on the GPU.
    """

    model: str
    n_max: int | None = None
    n_min: int | None = None
    p_min: float | None = None
    gpu_layers: int | None = None


class Arm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One set-up under comparison.

    `engine`: the name of an engine (docs/reference/engines.md lists them). `model`: a GGUF file, `standin:demo` or
    `standin:tiny` (generated on this machine); for vllm and sglang a Hugging Face name or folder; for `external` the
    name sent in each request. `binary`, `args`, `env`, `cwd` (working directory): how to start a server; "": the
    engine's program on PATH, and this process's directory. `command`: the user's start command in place of `binary` and
    `args`, as a list of words, or with `shell` as one line; `{model}`, `{draft_model}`, `{host}` and `{port}` are
    replaced. `url`: the address of an external server (http, https, or `unix:///path/to.sock`), or of a `command`
    without `{port}`. `pid`, `container`: the process whose memory belongs to an external server. `ca_file`:
    certificates for checking the server's; None: the system's store. `insecure`: no check. `api`: the OpenAI API to
    use, at `path`; None: its usual path. `threads`, `context`, `slots`: of an embedded engine; None: its default, and
    for `slots` (requests answered at once) the schedule's concurrency. `ready_timeout_s`: the most time from start to
    first token. `request`: fields of this arm's requests, merged after the study's `extra_body`.
    """

    engine: str
    model: str = ""
    draft: Draft | None = None
    binary: str = ""
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str = ""
    command: tuple[str, ...] | str = ()
    shell: bool = False
    url: str = ""
    pid: int | None = None
    container: str = ""
    insecure: bool = False
    ca_file: str | None = None
    api: Api = "openai-chat"
    path: str | None = None
    threads: int | None = None
    context: int | None = None
    slots: int | None = None
    ready_timeout_s: float = 600.0
    request: dict[str, Any] = {}  # JSON of any shape, as `extra_body`

    @property
    def runs_already(self) -> bool:
        """Whether `url` names a server that somebody else started: an arm with a `url` and no start command."""
        return bool(self.url) and not self.command

    @property
    def api_path(self) -> str:
        return API_PATHS[self.api] if self.path is None else self.path


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sampling settings of every request. `extra_body` is merged last; a null in it removes the field."""

    temperature: float | None = 0.0
    ignore_eos: bool = False
    extra_body: dict[str, Any] = {}  # JSON of any shape: the user decides what to send

    def problems(self) -> list[str]:
        sound = self.temperature is None or 0 <= self.temperature < math.inf
        return [] if sound else [f"temperature must be a number from 0 on, not {self.temperature:g}"]


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits in seconds after which a request ends as `timeout`; None: no limit. `connect_s`: until the connection is
    open. `first_token_s`: from sending to the first token. `between_tokens_s`: from one token to the next, or to the
    end of the answer. `request_s`: from sending to the end of the answer. The load checks them every 0.2 s."""

    connect_s: float | None = 10.0
    first_token_s: float | None = None
    between_tokens_s: float | None = None
    request_s: float | None = 6 * 3600.0

    def problems(self) -> list[str]:
        limits = ((name, value) for name, value in msgspec.structs.asdict(self).items() if value is not None)
        return [f"{name} must be more than 0 s, not {value:g}" for name, value in limits if not value > 0]


class Settle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pause before each trial except the first: `seconds`, and then until every GPU is at most `temperature_c` warmer
    than before the first trial, and its clock at most `clock_percent` lower, but no longer than `at_most_s`. A limit of
    None is not checked."""

    seconds: float = 0.0
    temperature_c: float | None = None
    clock_percent: float | None = None
    at_most_s: float = 600.0


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Checks of the answers, for workloads that are problem sets. `check`: run them after the last trial. `margin`: a
    difference of fewer percentage points of right answers does not matter. `check_s`, `memory_mib`: what the check of
    one answer may use, without what a compiler or a reference solution needs."""

    check: bool = True
    margin: float = 2.0
    check_s: float = 10.0
    memory_mib: int = 2048

    def problems(self) -> list[str]:
        found = [] if 0 < self.margin < 100 else [f"margin must be between 0 and 100 points, not {self.margin:g}"]
        found += [] if self.check_s > 0 else [f"check_s must be more than 0 s, not {self.check_s:g}"]
        return found + ([] if self.memory_mib >= 64 else [f"memory_mib must be at least 64, not {self.memory_mib}"])


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A study: the arms in the order of comparison (the first is the baseline), their requests, and the trials.

    `trials`: per arm. `until` ("±2%", or 2): add trials, up to `max_trials`, until the interval of `metric`'s
    difference is that narrow, or that far from 0, for every arm: see `analysis.stopping`. `order`: within a round,
    `trials` plays one arm's trial after the other's; `requests` has all engines running and sends each block of
    requests to every arm in turn; `auto` takes `requests` where all arms fit into memory. `block`: of `requests`, as a
    number of requests or as seconds of the schedule ("20s"); None: see `core.interleaving`. `metric`: the subject of
    the verdict. `restart`: `always` starts a new engine for each trial, `never` keeps the engine. `settle`: see Settle;
    a number sets its seconds. `parallel`: the trials of a round run at once, each arm on its own devices. `on_failure`:
    what follows a failed trial: the `next` trial, the same trial once more (`retry`) and then the next, or nothing
    (`stop`). `timeouts`: see Timeouts. `tokenizer`: a Hugging Face name, a folder or a tokenizer.json; `server` uses
    the engine's /tokenize; `none` counts nothing. `warmups`: requests sent before the clock starts, none of them with a
    measured prompt. `workers`: load processes that share the plan; None: one, or with --ray one on each node.
    `ladder`: model files of one model, the largest first; the only arm is made once for each. `quality`: see Quality.
    `fidelity`: after the last trial, ask each arm again, untimed, for its token probabilities.
    """

    name: str = ""
    arms: dict[str, Arm]
    ladder: tuple[str, ...] = ()
    workload: WorkloadSettings = Builtin()
    schedule: Schedule = Closed()
    sampling: Sampling = Sampling()
    timeouts: Timeouts = Timeouts()
    seed: int = 1
    trials: int = 4
    until: str | float | None = None
    max_trials: int = 10
    order: Order = "auto"
    block: int | str | None = None
    metric: str = PRIMARY_METRIC
    restart: Literal["always", "never"] = "always"
    on_failure: OnFailure = "next"
    settle: float | Settle = 0.0
    parallel: bool = False
    warmups: int = 1
    workers: int | None = None
    tokenizer: str = "server"
    quality: Quality = Quality()
    fidelity: bool = False

    @property
    def until_percent(self) -> float | None:
        """`until` as a number. Raises ValueError unless it is between 0 and 100."""
        if self.until is None:
            return None
        text = str(self.until).strip().removeprefix("±").removeprefix("+-").removeprefix("+/-").removesuffix("%")
        value = float(text)
        if not 0 < value < 100:
            raise ValueError(f"{self.until} is not between 0% and 100%")
        return value

    @property
    def settle_settings(self) -> Settle:
        return self.settle if isinstance(self.settle, Settle) else Settle(float(self.settle))


class TrialSpec(msgspec.Struct, frozen=True):
    """One trial to play: `number` counts this arm's trials from 1."""

    arm_name: str
    arm: Arm
    number: int
