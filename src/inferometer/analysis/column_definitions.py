"""Do the columns of a row mean the same, and if not, what does each mean? Marks and the lines that explain them."""

from collections.abc import Mapping, Sequence


def notes_of(labels: Sequence[str], told: Sequence[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    """A mark for each row, "" for most, and the notes. `told`: of each row, by column, how its definition differs from
    ours; "" where it does not.

    Rows that mean one thing in all columns have no mark, whosever the definition is; that it is not ours is a note.
    """
    marks: list[str] = []
    kinds: list[dict[str, str]] = []
    shared: dict[str, list[str]] = {}
    for label, by_column in zip(labels, told, strict=True):
        if len(set(by_column.values())) < 2:
            marks.append("")
            for text in set(by_column.values()) - {""}:
                shared.setdefault(text, []).append(label)
            continue
        # a row that some columns lack has the mark of one that means the same in those it has
        place = next((i for i, kind in enumerate(kinds) if by_column.items() <= kind.items()), len(kinds))
        if place == len(kinds):
            kinds.append(dict(by_column))
        marks.append(f"[{place + 1}]")
    notes = [f"[{place}] {_said(kind)}" for place, kind in enumerate(kinds, start=1)]
    notes += [f"{', '.join(found)}: not quite as we define it: {text}" for text, found in shared.items()]
    return marks, notes


def _said(kind: Mapping[str, str]) -> str:
    """What each column's number is; columns of one definition together."""
    columns: dict[str, list[str]] = {}
    for column, text in kind.items():
        columns.setdefault(text, []).append(column)
    return "; ".join(f"{', '.join(names)}: {text or 'by our definition'}" for text, names in columns.items())
