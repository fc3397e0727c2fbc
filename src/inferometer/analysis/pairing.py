"""Pairs of arms across several studies, and unique names for studies and arms."""

from collections.abc import Sequence
from pathlib import PurePath

import msgspec

from inferometer.base.errors import RequestWrong


class Place(msgspec.Struct, frozen=True):
    """An arm of a study. `study`: the study's unique name, "" for a run that another tool measured."""

    study: str
    arm: str

    @property
    def full_name(self) -> str:
        return f"{self.study}/{self.arm}" if self.study else self.arm


class Pair(msgspec.Struct, frozen=True):
    """Two places to compare: `arm` is judged against `baseline`."""

    baseline: Place
    arm: Place


def study_names(paths: Sequence[PurePath]) -> list[str]:
    """A unique name for each study: the last part of its path without `.zip`, and as many parts before it as are needed
    to make it unique. Raises RequestWrong if a study is given twice."""
    if len(set(paths)) < len(paths):
        twice = next(path for position, path in enumerate(paths) if path in paths[:position])
        raise RequestWrong(f"{twice} is given twice, and a study cannot be compared with itself. Remove one of them.")
    stems = [path.with_suffix("") if path.suffix.lower() == ".zip" else path for path in paths]
    if len(set(stems)) < len(stems):
        stems = list(paths)  # a folder and its own zip
    names: list[str] = []
    for stem in stems:
        others = [other.parts for other in stems if other != stem]
        count = next(n for n in range(1, len(stem.parts) + 1) if all(o[-n:] != stem.parts[-n:] for o in others))
        names.append("/".join(stem.parts[-count:]))
    return names


def display_names(places: Sequence[Place]) -> dict[Place, str]:
    """The name of each arm in a comparison: its own name, or `study/arm` if several studies have an arm of that
    name."""
    arms = [place.arm for place in places]
    return {place: place.full_name if arms.count(place.arm) > 1 else place.arm for place in places}


def pairs_by_name(places: Sequence[Place]) -> list[Pair]:
    """Each arm paired with the arm of the same name in the first study that has it, as baseline."""
    first: dict[str, Place] = {}
    pairs: list[Pair] = []
    for place in places:
        if place.arm in first:
            pairs.append(Pair(first[place.arm], place))
        else:
            first[place.arm] = place
    return sorted(pairs, key=lambda pair: list(first).index(pair.arm.arm))


def pairs_from_arguments(texts: Sequence[str], places: Sequence[Place]) -> list[Pair]:
    """The pairs of `--pair BASELINE:ARM`; each is an arm's name, or `study/arm` if several studies have it.

    Raises RequestWrong for a pair that cannot be found.
    """
    return [_pair(text, places) for text in dict.fromkeys(texts)]


def _pair(text: str, places: Sequence[Place]) -> Pair:
    """A name may contain a colon itself: the colon with a known name on either side is the separator."""
    if ":" not in text:
        raise RequestWrong(f"--pair {text}: write two arms as BASELINE:ARM. {_known_arms(places)}")
    halves = [(text[:i], text[i + 1 :]) for i, letter in enumerate(text) if letter == ":"]
    known = [(left, right) for left, right in halves if _matches(left, places) and _matches(right, places)]
    if not known:
        wrong = next((half for half in halves[0] if not _matches(half, places)), text)
        raise RequestWrong(f"--pair {text}: there is no arm {wrong!r} with a trial. {_known_arms(places)}")
    baselines, arms = (_matches(half, places) for half in known[0])
    for half, found in zip(known[0], (baselines, arms), strict=True):
        if len(found) > 1:
            raise RequestWrong(
                f"--pair {text}: {half!r} is an arm of several studies. Write "
                f"{' or '.join(place.full_name for place in found)}."
            )
    if baselines == arms:
        raise RequestWrong(f"--pair {text}: both names mean the same arm. Write two different arms.")
    return Pair(baselines[0], arms[0])


def _matches(name: str, places: Sequence[Place]) -> list[Place]:
    """Arms with that full name, else with that name."""
    exact = [place for place in places if place.full_name == name]
    return exact or [place for place in places if place.arm == name]


def _known_arms(places: Sequence[Place]) -> str:
    return f"The arms are {', '.join(place.full_name for place in places)}."
