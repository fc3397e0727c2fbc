"""Study files: what they mean, and every problem at once."""

import pytest

from inferometer.base.errors import SpecInvalid
from inferometer.base.extensions import WORKLOADS
from inferometer.core.schedule import Closed, Gamma, Poisson, Ramp, Replay
from inferometer.core.spec import Arm, Draft, Spec
from inferometer.core.spec_file import to_yaml
from inferometer.core.workload_settings import Builtin
from inferometer.study.study_file import parse_study as parse
from inferometer.workloads.sharegpt import ShareGpt
from inferometer.workloads.trace import Trace

SEED_STUDY = """
name: Qwen2.5-Coder-32B, with and without a draft
workload: {kind: sharegpt, path: Python-Code-23k-ShareGPT.json, num_prompts: 50}
schedule: {kind: closed, concurrency: 1}
seed: 1
trials: 3
arms:
  baseline: {engine: llama-server, model: Q4_K_M.gguf, args: [-ngl, "99"], env: {A: "1", B: "1"}}
  draft: {base: baseline, draft: {model: Q8_0.gguf, n_max: 24, n_min: 1, p_min: 0.6}, env: {B: "2"}}
"""


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(SpecInvalid) as caught:
        parse(text, "study.yaml")
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def test_the_example_of_the_design_reads():
    spec = parse(SEED_STUDY, "study.yaml")
    assert spec.workload == ShareGpt("Python-Code-23k-ShareGPT.json", 50)
    assert spec.schedule == Closed(1)
    assert list(spec.arms) == ["baseline", "draft"]
    assert spec.arms["draft"].draft == Draft("Q8_0.gguf", n_max=24, n_min=1, p_min=0.6)


def test_an_arm_takes_what_it_does_not_say_from_its_base():
    spec = parse(SEED_STUDY, "study.yaml")
    assert spec.arms["draft"].args == ("-ngl", "99")
    assert spec.arms["draft"].env == {"A": "1", "B": "2"}
    assert spec.arms["baseline"].draft is None


def test_flags_may_be_written_as_a_shell_takes_them():
    spec = parse("arms: {a: {engine: llama-server, model: m, args: [-ngl, 99, -fa, on], env: {GPU: 0}}}", "s")
    assert spec.arms["a"].args == ("-ngl", "99", "-fa", "on")
    assert spec.arms["a"].env == {"GPU": "0"}


def test_a_base_may_have_a_base_and_stand_below():
    spec = parse(
        "arms: {c: {base: b, threads: 3}, b: {base: a, threads: 2, context: 9}, a: {engine: vllm, model: m}}", "s"
    )
    assert spec.arms["c"] == Arm(engine="vllm", model="m", threads=3, context=9)


def test_what_is_written_reads_back_the_same():
    spec = parse(SEED_STUDY, "study.yaml")
    assert parse(to_yaml(spec), "copy") == spec
    other = Spec(arms={"a": Arm(engine="embedded", model="m")}, schedule=Poisson(2.0, 0.5, 4), workload=Builtin(3, 8))
    assert parse(to_yaml(other), "copy") == other


@pytest.mark.parametrize(
    ("written", "schedule"),
    [
        ("{kind: gamma, rate_per_s: 2, burstiness: 0.5}", Gamma(2.0, 0.5)),
        ("{kind: poisson, rate_per_s: 2, burstiness: .inf}", Poisson(2.0, float("inf"))),
        ("{kind: ramp, start_per_s: 0, end_per_s: 9, duration_s: 5}", Ramp(0.0, 9.0, duration_s=5.0)),
        ("{kind: ramp, start_per_s: 1, end_per_s: 9, strategy: exponential}", Ramp(1.0, 9.0, "exponential")),
        ("{kind: replay, speed: 2, max_concurrency: 8}", Replay(2.0, 8)),
    ],
)
def test_open_loops_are_written_so_and_read_back(written: str, schedule):
    text = f"workload: {{kind: trace, path: t.jsonl}}\nschedule: {written}\narms: {{a: {{engine: embedded, model: m}}}}"
    spec = parse(text, "s")
    assert (spec.workload, spec.schedule) == (Trace("t.jsonl"), schedule)
    assert parse(to_yaml(spec), "copy") == spec


def test_words_of_a_command_are_read_as_they_were_written():
    spec = parse("arms: {a: {engine: command, command: [serve, --port, '{port}', -t, 4, --fast, on]}}", "s")
    assert spec.arms["a"].command == ("serve", "--port", "{port}", "-t", "4", "--fast", "on")
    assert parse(to_yaml(spec), "copy") == spec
    line = parse("arms: {a: {engine: command, shell: true, command: 'exec serve --port {port}'}}", "s")
    assert line.arms["a"].command == "exec serve --port {port}"


def test_every_problem_is_reported_at_once_with_its_place_and_the_nearest_name():
    found = problems(
        "sede: 3\n"
        "workload: {kind: sharegp, path: x}\n"
        "schedule: {kind: closed, concurency: 2}\n"
        "arms:\n"
        "  a: {engin: embedded, model: 3}\n"
        "  b: {base: aa}\n"
    )
    assert "sede: unknown field; did you mean 'seed'?" in found
    assert (
        "workload.kind: 'sharegp' is unknown; did you mean 'sharegpt'? All: builtin, sharegpt, trace, random, "
        f"{', '.join(list(WORKLOADS)[4:])}" in found
    )
    assert "schedule.concurency: unknown field; did you mean 'concurrency'?" in found
    assert "arms.a.engin: unknown field; did you mean 'engine'?" in found
    assert "arms.a.model: expected text, got a whole number 3" in found
    assert "arms.a.engine: is missing" in found
    assert "arms.b.base: unknown arm 'aa'; did you mean 'a'?" in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "it is not valid YAML"),
        ("name: x\narms:\n\ta: {}", "line 3 is indented with a tab; use spaces"),
        ("name: a: b", "line 1, column 8: mapping values are not allowed in this context in `name: a: b`. Indent"),
        ("name: @x", "in `name: @x`. Put the value into quotes"),
        ("arms: {'': {engine: embedded, model: m}}", "arms: an arm has an empty name"),
        ("trials: two\narms: {a: {engine: embedded, model: m}}", "trials: expected a whole number, got text 'two'"),
        ("[1, 2]", "must be a mapping"),
        ("name: x", "arms: is missing"),
        ("arms: {}", "arms: give at least one"),
        ("arms: 3", "arms: expected a mapping, got a whole number 3"),
        ("arms: {a: {base: b}, b: {base: a}}", "is circular"),
        ("arms: {a: {engine: external}}", "arms.a.url: is missing"),
        ("arms: {a: {engine: embedded}}", "arms.a.model: is missing"),
        ("arms: {a: {engine: command}}", "arms.a.command: is missing; give the start command as a list of words"),
        ("arms: {a: {engine: command, command: 'serve it'}}", "or shell: true to have /bin/sh read the line"),
        ("arms: {a: {engine: command, command: [serve], shell: true}}", "in a list of words needs no shell"),
        (
            "arms: {a: {engine: embedded, model: m, command: [serve]}}",
            "the engine embedded takes no start command",
        ),
        ("arms: {a: {engine: vllm, model: m, command: [serve], args: [-t]}}", "replaces binary and args"),
        ("arms: {a: {engine: vllm, model: m, pid: 3}}", "pid: and container: are only for an external engine"),
        ("arms: {a: {engine: external, url: 'http://x', pid: 0}}", "pid: must be a process id, not 0"),
        ("arms: {a: {engine: external, url: 'http://x', pid: 3, container: c}}", "give only one"),
        ("arms: {a: {engine: external, url: 'http://x', draft: {model: m}}}", "start your server with its draft model"),
        ("trials: 0\narms: {a: {engine: embedded, model: m}}", "trials: must be at least 1, not 0"),
        (
            "sampling: {temperature: .nan}\narms: {a: {engine: embedded, model: m}}",
            "sampling.temperature must be a number",
        ),
        ("settle: .nan\narms: {a: {engine: embedded, model: m}}", "settle: must be at least 0, not nan"),
        (
            "schedule: {kind: closed, concurrency: 0}\narms: {a: {engine: embedded, model: m}}",
            "concurrency must be",
        ),
        (
            "schedule: {kind: poisson, rate_per_s: 0}\narms: {a: {engine: embedded, model: m}}",
            "rate_per_s must be",
        ),
        (
            "schedule: {kind: poisson, rate_per_s: .inf}\narms: {a: {engine: embedded, model: m}}",
            "schedule.rate_per_s must",
        ),
        ("schedule: {kind: gamma, rate_per_s: 1}\narms: {a: {engine: embedded, model: m}}", "burstiness: is missing"),
        (
            "schedule: {kind: ramp, start_per_s: 1, end_per_s: 2, strategy: log}\narms: {a: {engine: vllm, model: m}}",
            "schedule.strategy: 'log' is unknown",
        ),
        (
            "schedule: {kind: ramp, start_per_s: 0, end_per_s: 2}\narms: {a: {engine: embedded, model: m}}",
            "schedule.start_per_s must be greater than 0",
        ),
        (
            "schedule: {kind: replay}\narms: {a: {engine: embedded, model: m}}",
            "schedule.kind: replay needs the times of a trace, and the workload is builtin",
        ),
        (
            "workload: {kind: builtin, num_prompts: 0}\narms: {a: {engine: vllm, model: m}}",
            "num_prompts must be at",
        ),
        ("workload: {num_prompts: 3}\narms: {a: {engine: embedded, model: m}}", "workload.kind: is missing"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_reason(text: str, said: str):
    assert any(said in problem for problem in problems(text))


TWO = "arms:\n  a: {engine: external, url: http://h}\n  b: {engine: external, url: http://h}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TWO + "  a: {engine: external, url: http://other}\n", "arms.a: is given twice, in lines 2 and 4"),
        (TWO + "seed: 1\ntrials: 2\nseed: 2\n", "seed: is given twice, in lines 4 and 6"),
        (
            TWO + "workload: {kind: builtin, max_tokens: 4, max_tokens: 8}\n",
            "workload.max_tokens: is given twice, in lines 4",
        ),
        (
            "arms:\n  a:\n    engine: external\n    env: {A: 1}\n    env: {B: 1}\n    url: u\n",
            "arms.a.env: is given twice",
        ),
    ],
)
def test_a_key_that_is_given_twice_is_named_with_both_lines(text: str, said: str):
    assert any(said in line for line in problems(text))


def test_equal_keys_of_different_mappings_and_lists_are_no_repetition():
    parse(TWO.replace("http://h}", "http://h, env: {A: a, B: a}, args: [a, a]}", 1), "s")


def test_arguments_may_be_one_line_of_text():
    line = "arms: {a: {engine: vllm, model: m, args: '--seed 7 --override \\'{\"a\": 1}\\''}}".replace("\\'", "''")
    assert parse(line, "s").arms["a"].args == ("--seed", "7", "--override", '{"a": 1}')
    assert "cannot be split into words" in problems("arms: {a: {engine: vllm, model: m, args: '--x \"open'}}")[0]


def test_a_field_has_one_name_in_all_workloads_and_sharegpt_keeps_its_old_one():
    text = TWO + "workload: {kind: sharegpt, path: x.json, NAME: 7}\n"
    new, old = (parse(text.replace("NAME", name), "s") for name in ("max_tokens", "output_tokens"))
    assert new == old
    assert to_yaml(new).count("max_tokens: 7") == 1
    both = text.replace("NAME: 7", "max_tokens: 7, output_tokens: 7")
    assert problems(both) == ("workload.output_tokens: is another name of max_tokens; give one of them",)


@pytest.mark.parametrize("field", ["threads: -1", "context: -5", "slots: 0", "ready_timeout_s: -3"])
def test_numbers_of_an_arm_are_checked(field: str):
    (line,) = problems(f"arms: {{a: {{engine: external, url: u, {field}}}}}")
    assert line.startswith(f"arms.a.{field.split(':', maxsplit=1)[0]}: must be at least")
