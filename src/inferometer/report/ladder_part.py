"""A quantisation ladder as a part of the page: sentences, picture and table. Pure."""

from inferometer.analysis.comparison import Comparison
from inferometer.analysis.quantisation_ladder import ladder
from inferometer.report.drawings.ladder_front import ladder_front
from inferometer.report.ladder_table import ladder_rows
from inferometer.report.page.extra_part import ExtraPart


def ladder_part(comparison: Comparison) -> ExtraPart | None:
    """None where the arms are not a ladder."""
    found = ladder(comparison)
    if found is None:
        return None
    about = "Front: no smaller file is shown to be as fast and as good. Intervals: 95%."
    picture = ladder_front(found)
    drawings = () if picture is None else (("Memory and speed; the mark shows the right answers", picture),)
    return ExtraPart("ladder", "The ladder", (*found.sentences, about), drawings, tuple(ladder_rows(comparison, found)))
