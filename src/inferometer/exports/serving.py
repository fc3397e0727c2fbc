"""Trials in the formats of vLLM's serving benchmark: its printed block and its result file."""

import math
from typing import Any

from inferometer.core.record import Trial
from inferometer.core.record_columns import RecordColumns
from inferometer.core.schedule import Gamma, Poisson, Ramp, concurrency_limit, requested_rate_per_s
from inferometer.metrics.request_timing import MetricDialect
from inferometer.report.vllm_block import DEFAULT_SECTIONS, ServingArguments, result_json, serving_block
from inferometer.results.read import Study


def serving_arguments(
    study: Study,
    trial: Trial,
    *,
    date: str,
    backend: str = "",
    metadata: dict[str, str] | None = None,
    sections: tuple[str, ...] = DEFAULT_SECTIONS,
    percentiles: tuple[float, ...] = (99,),
    save_detailed: bool = False,
    label: str | None = None,
    model_id: str = "",
) -> ServingArguments:
    """What vLLM's result file says of the call. `backend` "": the arm's API. `date`: YYYYmmdd-HHMMSS. `model_id` "":
    the model that was asked for or that answered."""
    spec, schedule = study.spec, study.spec.schedule
    arm = spec.arms[trial.arm]
    model = model_id or arm.model or next(filter(None, RecordColumns.of(trial.records).models.words), "")
    return ServingArguments(
        date=date,
        backend=backend or arm.api,
        model_id=model,
        tokenizer_id=model if spec.tokenizer in ("server", "none") else spec.tokenizer,
        num_prompts=int(RecordColumns.of(trial.records).measured.sum()),
        metadata=metadata or {},
        request_rate=requested_rate_per_s(schedule) or math.inf,
        burstiness=schedule.burstiness if isinstance(schedule, Poisson | Gamma | Ramp) else 1.0,
        ramp=schedule if isinstance(schedule, Ramp) else None,
        max_concurrency=concurrency_limit(schedule),
        percentile_metrics=sections,
        percentiles=percentiles,
        save_detailed=save_detailed,
        label=label,
    )


def block_of(
    study: Study,
    trial: Trial,
    dialect: MetricDialect,
    percentiles: tuple[float, ...] = (99,),
    sections: tuple[str, ...] = DEFAULT_SECTIONS,
) -> str:
    """vLLM's block of one trial, without a final line break."""
    schedule = study.spec.schedule
    return serving_block(
        study.summary(trial, dialect, percentiles),
        percentile_metrics=sections,
        max_concurrency=concurrency_limit(schedule),
        request_rate=requested_rate_per_s(schedule) or math.inf,
    )


def result_of(
    study: Study, trial: Trial, dialect: MetricDialect, percentiles: tuple[float, ...] = (99,), *, save_detailed: bool
) -> dict[str, Any]:
    """vLLM's result file of one trial, with the study, the arm and the trial's number as its metadata."""
    metadata = {"study": study.spec.name or study.folder.resolve().stem, "arm": trial.arm, "trial": str(trial.number)}
    arguments = serving_arguments(
        study,
        trial,
        date=_compact(trial.started_at),
        metadata=metadata,
        percentiles=percentiles,
        save_detailed=save_detailed,
    )
    return result_json(study.view(trial, dialect), arguments)


def _compact(started_at: str) -> str:
    """A time stamp in vLLM's form: 2026-05-04T12:30:00.123+02:00 becomes 20260504-123000."""
    digits = "".join(letter for letter in started_at[:19] if letter.isdigit())
    return f"{digits[:8]}-{digits[8:]}"
