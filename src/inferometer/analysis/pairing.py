"""Which arms of several studies stand against one another, and what is each called?"""

from collections.abc import Sequence
from pathlib import PurePath

import msgspec

from inferometer.base.errors import RequestWrong


class Place(msgspec.Struct, frozen=True):
    """An arm of a study; `study` is the study's name, which no other of the studies has, "" for what another tool
    measured."""

    study: str
    arm: str

    @property
    def whole(self) -> str:
        return f"{self.study}/{self.arm}" if self.study else self.arm


class Pair(msgspec.Struct, frozen=True):
    baseline: Place
    arm: Place


def study_names(paths: Sequence[PurePath]) -> list[str]:
    """A name for each study: the last part of its path without `.zip`, and as many parts before it as tell apart
    those that end alike. Raises RequestWrong where a study is given twice."""
    if len(set(paths)) < len(paths):
        twice = next(path for place, path in enumerate(paths) if path in paths[:place])
        raise RequestWrong(f"{twice} is given twice; a study cannot be compared with itself.")
    wholes = [path.with_suffix("") if path.suffix.lower() == ".zip" else path for path in paths]
    if len(set(wholes)) < len(wholes):
        wholes = list(paths)  # a folder, and its zip beside it
    names: list[str] = []
    for whole in wholes:
        others = [other.parts for other in wholes if other != whole]
        count = next(n for n in range(1, len(whole.parts) + 1) if all(o[-n:] != whole.parts[-n:] for o in others))
        names.append("/".join(whole.parts[-count:]))
    return names


def shown_names(places: Sequence[Place]) -> dict[Place, str]:
    """What each arm is called in a comparison: by its own name, or `study/arm` where two studies have that arm."""
    arms = [place.arm for place in places]
    return {place: place.whole if arms.count(place.arm) > 1 else place.arm for place in places}


def pairs_by_name(places: Sequence[Place]) -> list[Pair]:
    """Each arm against the arm of its name in the first study that has one."""
    first: dict[str, Place] = {}
    pairs: list[Pair] = []
    for place in places:
        if place.arm in first:
            pairs.append(Pair(first[place.arm], place))
        else:
            first[place.arm] = place
    return sorted(pairs, key=lambda pair: list(first).index(pair.arm.arm))


def pairs_asked(texts: Sequence[str], places: Sequence[Place]) -> list[Pair]:
    """What `--pair BASELINE:ARM` means; each is an arm's name, or `study/arm` where two studies have it.

    Raises RequestWrong.
    """
    return [_pair(text, places) for text in dict.fromkeys(texts)]


def _pair(text: str, places: Sequence[Place]) -> Pair:
    """A name may hold a colon itself: the one that has a known name on either side divides."""
    if ":" not in text:
        raise RequestWrong(f"--pair {text}: give two arms, as BASELINE:ARM. {_known(places)}")
    halves = [(text[:i], text[i + 1 :]) for i, letter in enumerate(text) if letter == ":"]
    known = [(one, other) for one, other in halves if _named(one, places) and _named(other, places)]
    if not known:
        wrong = next((half for half in halves[0] if not _named(half, places)), text)
        raise RequestWrong(f"--pair {text}: there is no arm {wrong!r} with a trial. {_known(places)}")
    one, other = (_named(half, places) for half in known[0])
    for half, found in zip(known[0], (one, other), strict=True):
        if len(found) > 1:
            raise RequestWrong(
                f"--pair {text}: {half!r} is an arm of several studies; write "
                f"{' or '.join(place.whole for place in found)}."
            )
    if one == other:
        raise RequestWrong(f"--pair {text}: both are the same arm.")
    return Pair(one[0], other[0])


def _named(name: str, places: Sequence[Place]) -> list[Place]:
    whole = [place for place in places if place.whole == name]
    return whole or [place for place in places if place.arm == name]


def _known(places: Sequence[Place]) -> str:
    return f"The arms are {', '.join(place.whole for place in places)}."
