"""How is each picture of the page drawn? One function a picture: numbers in, SVG with its words and its table out."""

from inferometer.reports.drawings.shares import MOST_PROMPTS, bars, by_group, by_prompt, memory
from inferometer.reports.drawings.spread import ratios, shapes
from inferometer.reports.drawings.trial import over_time, timeline

__all__ = ["MOST_PROMPTS", "bars", "by_group", "by_prompt", "memory", "over_time", "ratios", "shapes", "timeline"]
