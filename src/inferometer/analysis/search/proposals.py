"""Proposals of new settings in a large space, by Optuna's tree-structured Parzen estimator."""

import warnings
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from inferometer.base.errors import RequestWrong
from inferometer.core.search_settings import Parameter, Search, Value

if TYPE_CHECKING:
    from optuna.study import Study

Settings = tuple[Value, ...]
"""One value for each parameter, in the order of the search."""

_TRIES = 20
_STARTUP = 12
"""Settings that are drawn at random before the estimator proposes."""
_NOT_INSTALLED = (
    "search: {size} settings are too many for a full grid (at most {most}), and proposals need Optuna, which is not "
    "installed. Install it with: pip install 'inferometer[tune]'; or give fewer values."
)


def require_optuna(size: int, most: int) -> None:
    """Raises RequestWrong if Optuna is not installed."""
    import importlib.util

    if importlib.util.find_spec("optuna") is None:
        raise RequestWrong(_NOT_INSTALLED.format(size=size, most=most))


def propose(
    search: Search,
    known: Mapping[Settings, float],
    unusable: Collection[Settings],
    count: int,
    seed: int,
) -> list[Settings]:
    """`count` settings that were not measured yet, or fewer where none is found. `known`: the result of each setting,
    larger is better. `unusable`: settings that failed or violate a constraint. The same arguments give the same
    settings."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts that Optuna calls experimental
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=_STARTUP, multivariate=True, constant_liar=True, seed=seed
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        _tell(study, search, known, unusable)
        return _ask(study, search, {*known, *unusable}, count)


def _tell(study: "Study", search: Search, known: Mapping[Settings, float], unusable: Collection[Settings]) -> None:
    """A setting that cannot be used counts as worse than every measured one."""
    from optuna.trial import create_trial

    kinds = {path: _distribution(one) for path, one in search.parameters.items()}
    worst = min(known.values(), default=0.0) - 0.1
    for settings, value in [*known.items(), *((one, worst) for one in unusable)]:
        raw = {path: _raw(one, value) for (path, one), value in zip(search.parameters.items(), settings, strict=True)}
        study.add_trial(create_trial(params=raw, distributions=kinds, value=value))


def _ask(study: "Study", search: Search, taken: set[Settings], count: int) -> list[Settings]:
    kinds = {path: _distribution(one) for path, one in search.parameters.items()}
    found: list[Settings] = []
    for _ in range(_TRIES * count):
        if len(found) == count:
            break
        asked = study.ask(kinds)
        settings = tuple(_value(one, asked.params[path]) for path, one in search.parameters.items())
        if settings not in taken:
            taken.add(settings)
            found.append(settings)
    return found


def _distribution(one: Parameter) -> Any:  # Optuna's distributions have no common public constructor
    from optuna import distributions

    if one.choice is not None:
        return distributions.CategoricalDistribution(range(len(one.choice)))
    is_log, (low, high) = one.scale == "log", one.bounds
    if one.int is not None:
        return distributions.IntDistribution(round(low), round(high), log=is_log)
    return distributions.FloatDistribution(low, high, log=is_log)


def _value(one: Parameter, raw: Any) -> Value:
    if one.choice is not None:
        found: Value = one.choice[int(raw)]
        return found
    return one.rounded(float(raw))


def _raw(one: Parameter, value: Value) -> Any:  # as Optuna's distributions want it
    return one.choice.index(value) if one.choice is not None else value
