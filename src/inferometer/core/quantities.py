"""Registry of sample quantities and fact names: the stored name, the unit and the meaning of each.

A quantity names a series of `Sample`s. A fact name says what a `Fact` states. Study folders store these names, so an
existing name never changes. Other modules use the constants and functions of this module, never the text.
"""

from typing import Literal, NamedTuple

Role = Literal["model", "draft"]
"""The part that a model file plays in an arm."""

ModelAttribute = Literal[
    "name", "file", "folder", "bytes", "head_sha256", "config_sha256", "changed_ns", "samples_sha256"
]


class Definition(NamedTuple):
    """`unit` is "" for text and for plain counts without a unit."""

    unit: str
    meaning: str


QUANTITIES: dict[str, Definition] = {}
"""Every sample quantity by its stored name."""
FACTS: dict[str, Definition] = {}
"""Every fact name by its stored name. The functions below make names that hold a number, a device or a probe."""


def _quantity(name: str, unit: str, meaning: str) -> str:
    QUANTITIES[name] = Definition(unit, meaning)
    return name


def _fact(name: str, unit: str, meaning: str) -> str:
    FACTS[name] = Definition(unit, meaning)
    return name


# --- quantities: processes and machine ------------------------------------------------------------

PSS_BYTES = _quantity("pss_bytes", "B", "proportional set size of the engine's process tree")
RSS_AT_PSS_BYTES = _quantity(
    "rss_at_pss_bytes", "B", "resident memory of the same processes in the same reading as PSS"
)
RSS_BYTES = _quantity("rss_bytes", "B", "resident memory of the engine's process tree; shared pages count repeatedly")
ENGINE_THREADS = _quantity("engine_threads", "", "threads of the engine's process tree")
ENGINE_CPU_CORES = _quantity("engine_cpu_cores", "cores", "CPU of the engine's process tree since the last reading")
CPU_CORES_BUSY = _quantity("cpu_cores_busy", "cores", "busy cores of the whole machine since the last reading")
CPU_CORES_STOLEN = _quantity("cpu_cores_stolen", "cores", "cores that the hypervisor took since the last reading")
OTHER_CPU_CORES = _quantity("other_cpu_cores", "cores", "cores used by neither the engine nor Inferometer")
MEMORY_USED_BYTES = _quantity("memory_used_bytes", "B", "used memory of the machine: total less available")
CGROUP_THROTTLED_S = _quantity("cgroup_throttled_s", "s", "counter: time for which a CPU limit stopped our cgroup")

TURN_NS = _quantity("turn_ns", "ns", "length of a turn: while it lasts only this arm works (`order: requests`)")

# --- quantities: GPUs -----------------------------------------------------------------------------

GPU_MEMORY_BYTES = _quantity("gpu_memory_bytes", "B", "memory of one device held by the engine")
GPU_MEMORY_USED_BYTES = _quantity("gpu_memory_used_bytes", "B", "memory of one device held by all processes")
GPU_UTILIZATION_PERCENT = _quantity("gpu_utilization_percent", "%", "share of time with a kernel running")
OTHER_GPU_PERCENT = _quantity("other_gpu_percent", "%", "load of one device caused by processes other than the engine")
POWER_W = _quantity("power_w", "W", "power draw of one device")
POWER_LIMIT_W = _quantity("power_limit_w", "W", "enforced power limit of one device")
ENERGY_J = _quantity("energy_j", "J", "counter: energy that one device used since its driver was loaded")
GPU_TEMPERATURE_C = _quantity("gpu_temperature_c", "°C", "temperature of one device")
MEMORY_TEMPERATURE_C = _quantity("memory_temperature_c", "°C", "temperature of a device's memory")
SM_CLOCK_MHZ = _quantity("sm_clock_mhz", "MHz", "clock of a device's compute units")
MEMORY_CLOCK_MHZ = _quantity("memory_clock_mhz", "MHz", "clock of a device's memory")
THROTTLE_REASONS = _quantity("throttle_reasons", "", "NVML's bit mask of the reasons for reduced clocks")

# --- quantities: counters and gauges of the engine ------------------------------------------------

SPEC_DRAFT_TOKENS_TOTAL = _quantity("spec_draft_tokens_total", "tok", "counter: tokens that the draft proposed")
SPEC_ACCEPTED_TOKENS_TOTAL = _quantity("spec_accepted_tokens_total", "tok", "counter: drafted tokens accepted")
SPEC_STEPS_TOTAL = _quantity("spec_steps_total", "", "counter: verification steps of speculative decoding")
KV_CACHE_USAGE_PERCENT = _quantity("kv_cache_usage_percent", "%", "used share of the KV cache")
REQUESTS_RUNNING = _quantity("requests_running", "requests", "requests that the engine is processing")
REQUESTS_WAITING = _quantity("requests_waiting", "requests", "requests in the engine's queue")

# --- facts: machine -------------------------------------------------------------------------------

OS = _fact("os", "", "operating system and kernel")
PYTHON = _fact("python", "", "Python implementation and version of the client")
INFEROMETER = _fact("inferometer", "", "version of Inferometer")
CPU = _fact("cpu", "", "CPU model")
CPU_CORES_PHYSICAL = _fact("cpu_cores_physical", "cores", "physical CPU cores")
CPU_CORES_LOGICAL = _fact("cpu_cores_logical", "cores", "logical CPU cores")
CPU_CORES_USABLE = _fact("cpu_cores_usable", "cores", "logical CPU cores that this process may use")
CPU_LIMIT_CORES = _fact("cpu_limit_cores", "cores", "CPU limit of our control group")
MEMORY = _fact("memory", "", "total memory, for reading")
MEMORY_BYTES = _fact("memory_bytes", "B", "total memory")
MEMORY_LIMIT = _fact("memory_limit", "", "memory limit of our control group, for reading")
GPUS = _fact("gpus", "", "number of NVIDIA devices, or why there are none")
GPU_DRIVER = _fact("gpu_driver", "", "version of the NVIDIA driver")
MACHINE_LOAD_OF = _fact("machine_load_of", "", "the cores that the readings of machine load cover")
LOAD_HOSTS = _fact("load_hosts", "", "hosts of the load workers")

# --- facts: engine --------------------------------------------------------------------------------

ENGINE = _fact("engine", "", "engine of the arm")
ENGINE_VERSION = _fact("engine_version", "", "version that the engine reports")
ENGINE_BUILD = _fact("engine_build", "", "build that llama.cpp's server reports")
PREFIX_CACHE = _fact("prefix_cache", "", "how prompts of earlier trials were kept from helping")
PREFIX_CACHE_AT_END = _fact("prefix_cache_at_end", "", "whether the server caches prompts, after the trial")
ENGINE_MODEL_PATH = _fact("engine_model_path", "", "model file that llama.cpp's server reports")
ENGINE_COMMAND = _fact("engine_command", "", "command line of the engine, without secrets")
ENGINE_CWD = _fact("engine_cwd", "", "working directory of the engine")
ENGINE_URL = _fact("engine_url", "", "address of an external engine, without secrets")
ENGINE_PROXY = _fact("engine_proxy", "", "proxy between the client and the engine, without secrets")
ENGINE_SERVER_HEADER = _fact("engine_server_header", "", "value of the engine's Server header")
ENGINE_READY_S = _fact("engine_ready_s", "s", "time from the engine's start to its first token")
ENGINE_READY_AT_NS = _fact("engine_ready_at_ns", "ns", "time of the first token, from the trial's start")
REFUSED_FIELDS = _fact("refused_fields", "", "request fields that the server refused and that were left out")
SLOTS = _fact("slots", "requests", "requests that llama.cpp's server answers at once")
SLOT_CONTEXT_TOKENS = _fact("slot_context_tokens", "tok", "context of one slot of llama.cpp's server")

REQUESTED_DRAFT = _fact("asked_draft", "", "requested setting: speculative decoding, on or off")
REQUESTED_FLASH_ATTN = _fact("asked_flash_attn", "", "requested setting: flash attention")
REQUESTED_GPU_LAYERS = _fact("asked_gpu_layers", "layers", "requested setting: layers on the GPU")
REQUESTED_CONTEXT = _fact("asked_context", "tok", "requested setting: context length")
EFFECTIVE_DRAFT = _fact("in_force_draft", "", "effective setting: speculative decoding, on or off")
EFFECTIVE_CACHE_TYPES = _fact("in_force_cache_types", "", "effective setting: types of the KV cache's keys and values")
EFFECTIVE_FLASH_ATTN = _fact("in_force_flash_attn", "", "effective setting: flash attention")
EFFECTIVE_GPU_LAYERS = _fact("in_force_gpu_layers", "layers", "effective setting: layers on the GPU / all layers")
EFFECTIVE_CONTEXT = _fact("in_force_context", "tok", "effective setting: context length")

SPEC_LOG_DRAFTS = _fact("spec_log_drafts", "", "drafts in the engine's log, since its start")
SPEC_LOG_ACCEPTED_DRAFTS = _fact("spec_log_accepted_drafts", "", "drafts with an accepted token, since engine start")
SPEC_LOG_DRAFTED_TOKENS = _fact("spec_log_drafted_tokens", "tok", "drafted tokens in the log, since engine start")
SPEC_LOG_ACCEPTED_TOKENS = _fact("spec_log_accepted_tokens", "tok", "accepted tokens in the log, since engine start")
SPEC_LOG_BEGIN_MS = _fact("spec_log_begin_ms", "ms", "time spent preparing drafts, since engine start")
SPEC_LOG_DRAFT_MS = _fact("spec_log_draft_ms", "ms", "time spent drafting, since engine start")
SPEC_LOG_ACCEPT_MS = _fact("spec_log_accept_ms", "ms", "time spent accepting drafts, since engine start")

MODEL_NAME = _fact("model_name", "", "name in the model file, or the name of a Hugging Face model")
MODEL_FILE = _fact("model_file", "", "name of the model file, without its folder")
MODEL_FOLDER = _fact("model_folder", "", "name of the model folder, without its parents")
MODEL_BYTES = _fact("model_bytes", "B", "size of the model file")
MODEL_HEAD_SHA256 = _fact("model_head_sha256", "", "hash of the first MiB of the model file")
MODEL_CHANGED_NS = _fact("model_changed_ns", "ns", "time at which the model file was last changed")
MODEL_SAMPLES_SHA256 = _fact("model_samples_sha256", "", "hash of pieces of the model file, at equal distances")
MODEL_CONFIG_SHA256 = _fact("model_config_sha256", "", "hash of the config.json in the model folder")
DRAFT_NAME = _fact("draft_name", "", "as model_name, for the draft model")
DRAFT_FILE = _fact("draft_file", "", "as model_file, for the draft model")
DRAFT_FOLDER = _fact("draft_folder", "", "as model_folder, for the draft model")
DRAFT_BYTES = _fact("draft_bytes", "B", "as model_bytes, for the draft model")
DRAFT_HEAD_SHA256 = _fact("draft_head_sha256", "", "as model_head_sha256, for the draft model")
DRAFT_CHANGED_NS = _fact("draft_changed_ns", "ns", "as model_changed_ns, for the draft model")
DRAFT_SAMPLES_SHA256 = _fact("draft_samples_sha256", "", "as model_samples_sha256, for the draft model")
DRAFT_CONFIG_SHA256 = _fact("draft_config_sha256", "", "as model_config_sha256, for the draft model")

# --- facts: trial ---------------------------------------------------------------------------------

GPUS_IN_USE = _fact("gpus_in_use", "", "NVIDIA devices on which the engine held memory")
AMD_GPUS_IN_USE = _fact("amd_gpus_in_use", "", "AMD devices on which the engine held memory")
SERVER_ELSEWHERE = _fact("server_elsewhere", "", "sentence: why the watched processes are not the server")
ENGINE_METRICS_MISSED = _fact("engine_metrics_missed", "", "failed readings of the engine's metrics page")
SAMPLING_PERCENT_OF_A_CORE = _fact("sampling_percent_of_a_core", "%", "CPU that the probes used, of one core")
ORDER = _fact("order", "", "`requests`: interleaved with the other arms; `trials`: one trial after another")
ORDER_WHY = _fact("order_why", "", "sentence: the reason for the order, with `order: auto`")
REQUESTS_ACCOUNTED = _fact("requests_accounted", "", "sentence: planned, sent and ended requests")

# --- families of fact names -----------------------------------------------------------------------


def gpu_fact(number: int) -> str:
    """The fact that describes the NVIDIA device with this number in NVML's order."""
    return f"{GPU_FACT_PREFIX}{number}"


GPU_FACT_PREFIX = "gpu_"
"""Begins the names of `gpu_fact`, and of `GPU_DRIVER`."""


def absent_fact(name: str) -> str:
    """The fact that says why a quantity, or all readings of the probe of this name, are missing."""
    return f"no_{name.replace(' ', '_')}"


def interval_fact(probe: str) -> str:
    """The fact that states the mean time between a probe's readings, in s, where it exceeds the probe's interval."""
    return f"{probe.replace(' ', '_')}_every_s"


def model_fact(role: Role, attribute: ModelAttribute) -> str:
    """MODEL_NAME to DRAFT_CONFIG_SHA256."""
    return f"{role}_{attribute}"


def spec_log_fact(statistic: str) -> str:
    """SPEC_LOG_DRAFTS to SPEC_LOG_ACCEPT_MS, by llama.cpp's name of the statistic."""
    return f"spec_log_{statistic}"


def load_fact(measure: str) -> str:
    """The fact that states one measure of the load process's own cost (`LoadReport`)."""
    return f"load_{measure}"
