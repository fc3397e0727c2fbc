"""Pictures of the report, one function each: numbers in; SVG with its text and its table of numbers out. Pure."""

from inferometer.report.drawings.acceptance_bars import MOST_PROMPTS, acceptance_by_group, acceptance_by_prompt
from inferometer.report.drawings.distribution_shapes import distribution_shapes
from inferometer.report.drawings.memory_bars import memory_bars
from inferometer.report.drawings.metric_bars import metric_bars
from inferometer.report.drawings.paired_ratios import paired_ratios
from inferometer.report.drawings.ranking_bars import ranking_bars, ranking_legend
from inferometer.report.drawings.token_timeline import token_timeline
from inferometer.report.drawings.trial_curves import trial_curves

__all__ = [
    "MOST_PROMPTS",
    "acceptance_by_group",
    "acceptance_by_prompt",
    "distribution_shapes",
    "memory_bars",
    "metric_bars",
    "paired_ratios",
    "ranking_bars",
    "ranking_legend",
    "token_timeline",
    "trial_curves",
]
