"""How is each picture of the page drawn? One function a picture: numbers in, SVG with its words and its table out."""

from inferometer.report.drawings.shares import MOST_PROMPTS, bars, by_group, by_prompt, memory
from inferometer.report.drawings.spread import ratios, shapes
from inferometer.report.drawings.trial import over_time, timeline

__all__ = ["MOST_PROMPTS", "bars", "by_group", "by_prompt", "memory", "over_time", "ratios", "shapes", "timeline"]
