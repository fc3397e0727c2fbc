import pytest

from inferometer.core.spec import Arm, Draft
from inferometer.engines.catalog import descriptions
from inferometer.engines.help_text import Argument
from inferometer.engines.requested_settings import requested_settings

DRAFT_FLAGS = tuple(flag for engine in descriptions() for flag in engine.draft_flags)
OLD = {"-fa": Argument(0)}
NEW = {"-fa": Argument(1, "[on|off|auto]")}


def asked(args: tuple[str, ...], known: dict[str, Argument] | None = None, **fields: object) -> dict[str, str]:
    arm = Arm(engine="llama-server", args=args, **fields)  # pyright: ignore[reportArgumentType]
    return {fact.name.removeprefix("asked_"): fact.value for fact in requested_settings(arm, DRAFT_FLAGS, known)}


@pytest.mark.parametrize(
    ("args", "known", "facts"),
    [
        ((), NEW, {"draft": "off"}),
        (("-fa", "on", "-ngl", "99", "-c", "4096"), NEW, {"flash_attn": "on", "gpu_layers": "99", "context": "4096"}),
        (("-fa", "-ngl", "all"), OLD, {"flash_attn": "on", "gpu_layers": "all"}),
        (("-fa", "0"), NEW, {"flash_attn": "off"}),
        (("--flash-attn=1",), NEW, {"flash_attn": "on"}),
        (("-fa", "false"), NEW, {"flash_attn": "off"}),
        (("-fa", "disabled"), NEW, {"flash_attn": "off"}),
        (("-fa", "-1"), NEW, {}),
        (("-fa", "on", "-fa", "off"), NEW, {"flash_attn": "off"}),
        (("--n-gpu-layers=99",), NEW, {"gpu_layers": "99"}),
        (("-fa", "auto", "-ngl", "auto", "-c", "0"), NEW, {}),
        (("-ngl", "0"), NEW, {"gpu_layers": "0"}),
        (("-md", "d.gguf"), NEW, {"draft": "on"}),
        (("--spec-type", "none"), NEW, {"draft": "off"}),
        (("--spec-draft-model=d.gguf",), NEW, {"draft": "on"}),
        (("-hfd", "user/repo"), NEW, {"draft": "on"}),
        (("--spec-type", "ngram-simple"), NEW, {"draft": "on"}),
        (("-m", "m.gguf", "--spec-draft-n-max", "4"), NEW, {"draft": "off"}),
        (("--speculative-config", "{}"), {}, {"draft": "on"}),
    ],
)
def test_flags_are_told_in_the_words_of_what_is_in_force(
    args: tuple[str, ...], known: dict[str, Argument], facts: dict[str, str]
):
    assert asked(args, known) == {"draft": "off"} | facts


def test_an_arm_s_own_fields_ask_too():
    assert asked((), context=512, draft=Draft(model="d")) == {"draft": "on", "context": "512"}
