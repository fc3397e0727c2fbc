"""Thresholds of the validity checks, each with its reason."""

TOKEN_TOTALS_PERCENT = 2.0
"""Output tokens of two arms: greedy decoding of one model varies by 1% to 1.5% (+0.4% and -1.4% in this project's first
study); beyond 2% one arm had more work."""

FINISH_SHARE = 0.05
FINISH_LEVEL = 0.01
"""Finish reasons: a difference of 5 percentage points in a share changes totals by about as much. The 1% level prevents
findings from a few requests in a small sample."""

OUTPUT_SHARE = 0.10
OUTPUT_LEVEL = 0.01
"""Share of exact matches 10 percentage points below the baseline's agreement with itself, and not by chance: batching
and different kernels flip single tokens in any engine, and one flip changes the rest of a text. Without a second trial
of the baseline: more than one text in ten differs."""

DEGENERATE_SHARE = 0.05
"""One answer in twenty may loop without any defect: greedy decoding of small models does this."""
DEGENERATE_EXCESS = 0.10
DEGENERATE_LEVEL = 0.01
"""An arm with 10 percentage points more broken answers than another, and not by chance, does not behave like the same
model. The test is needed because a flipped token may send one answer in eight into a loop."""
LOOP_SHARE = 0.5
LOOP_CHARS = 60
LOOP_PERIOD = 1000
LOOP_REPEATS = 4
"""A loop: the last half of an answer, and at least 60 characters, repeats one piece of at most 1000 characters at least
four times. Tables and lists repeat a form but not the exact text, and a sound answer does not end in repeated rows."""
WHOLE_LOOP_CHARS = 16
"""An answer that consists only of repetitions is a loop from 16 characters on: a broken kernel repeats one token
(`GGGG`) even in a short answer, and 16 equal characters are not an answer to a prompt."""
COMPRESSION_RATIO = 16.0
COMPRESSION_CHARS = 400
"""Ratio of a text to its zlib-compressed form, for loops before the end of the answer: prose and code stay below 4,
sound answers made of rows (300 SQL inserts, a JSON list, a switch) reach 12."""
CUT_CHARACTERS = 3
"""Replacement characters that are allowed at the end of an answer: a character of four bytes that was cut after three.
Some engines send the incomplete bytes."""

CACHE_SHARE = 0.05
CACHE_TEMPLATE_TOKENS = 40
"""Prompt tokens from the prefix cache beyond what the plan's prompts share: 5% of all tokens is 5% of the prefill,
which is within the variation between trials. Every request shares the first tokens of its chat template with the
request before.
"""

WARM_Z = 3.5
WARM_EXCESS = 0.2
WARM_LEAST_REQUESTS = 8
"""The first request compared with the rest: a modified z-score above 3.5 (Iglewicz and Hoaglin 1993, How to Detect and
Handle Outliers), and at least 20% more, because a tiny difference has a large score if all requests are alike."""

DRIFT_LEVEL = 0.001
DRIFT_PERCENT = 10.0
DRIFT_LEAST_REQUESTS = 10
"""A trend of time per token over a trial: Kendall's rank test, because it assumes no shape of the trend, at a level
that is rarely reached by chance in several trials; and 10% from start to end, which is more than interleaving leaves in
a ratio."""
TRIALS_SPREAD_PERCENT = 10.0
"""Best compared with worst trial of an arm: an undisturbed machine varies less. Interleaving arms cancels a drift
only."""
CLOCK_PERCENT = 2.0
"""Mean GPU clocks of two arms: time per token changes at most in proportion to the clock, so that 2% of clock can cause
a difference of 2%."""
THERMAL_REASONS = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""NVML's throttle reasons that are not normal operation. Every card reaches the software power cap (0x04) under
load."""

BUSY_CPU_SHARE = 0.10
"""Share of the machine's cores that other processes used during a trial. A tenth is one core of ten; an engine whose
threads wait for one another loses more than that share."""
BUSY_GPU_PERCENT = 5.0
"""Percent of a GPU's time that other processes used: the engine loses the same amount."""

FAILED_INVALID_SHARE = 0.10
"""With more failures than this, the other requests ran on a less loaded server: they measured a different load."""

EVIDENCE_MATCHES = 0.999
"""Share of equal outputs from which all outputs count as identical."""

BURST_TOKENS = 1.2
"""Mean tokens per burst: at this mean, with bursts of six among single tokens, half of all gaps may lie within a
burst."""
