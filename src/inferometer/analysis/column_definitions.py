"""Marks on rows whose columns are defined differently, and the notes that explain the marks."""

from collections.abc import Mapping, Sequence


def definition_notes(labels: Sequence[str], differs: Sequence[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    """A mark for each row ("" for most) and the notes. `differs`: for each row, by column, how its definition differs
    from ours; "" if it does not.

    A row with the same definition in all columns has no mark; if that definition is not ours, a note says so.
    """
    marks: list[str] = []
    definitions: list[dict[str, str]] = []
    shared: dict[str, list[str]] = {}
    for label, by_column in zip(labels, differs, strict=True):
        if len(set(by_column.values())) < 2:
            marks.append("")
            for text in set(by_column.values()) - {""}:
                shared.setdefault(text, []).append(label)
            continue
        # a row without a value in some columns shares the mark of a row that agrees in the other columns
        position = next(
            (i for i, known in enumerate(definitions) if by_column.items() <= known.items()), len(definitions)
        )
        if position == len(definitions):
            definitions.append(dict(by_column))
        marks.append(f"[{position + 1}]")
    notes = [f"[{number}] {_columns_text(by_column)}" for number, by_column in enumerate(definitions, start=1)]
    notes += [f"{', '.join(found)}: defined differently from ours: {text}" for text, found in shared.items()]
    return marks, notes


def _columns_text(by_column: Mapping[str, str]) -> str:
    """The definition of each column; columns with the same definition are listed together."""
    columns: dict[str, list[str]] = {}
    for column, text in by_column.items():
        columns.setdefault(text, []).append(column)
    return "; ".join(f"{', '.join(names)}: {text or 'our definition'}" for text, names in columns.items())
