"""Thresholds of the validity checks, each with its reason."""

SAME_PROMPTS_SHARE = 0.5
SAME_PROMPTS_LEAST = 3
SAME_PROMPTS_FEW = 0.25
"""One prompt in more than half of the requests, and at least three times: a data set may hold a prompt twice. Or each
prompt four times on average."""

TOKEN_TOTALS_PERCENT = 2.0
"""Output tokens of two arms: greedy decoding of one model varies by 1% to 1.5% (+0.4% and -1.4% in this project's first
study); beyond 2% one arm had more work."""

LENGTHS_EXPLAIN = 2.0
LENGTHS_LEAST_PERCENT = 0.5
"""A difference in throughput of less than twice what longer answers explain may be of the lengths alone, where these
explain half a percent."""

FINISH_SHARE = 0.05
FINISH_LEVEL = 0.01
"""Finish reasons: a difference of 5 percentage points in a share changes totals by about as much. The 1% level prevents
findings from a few requests in a small sample."""

OUTPUT_SHARE = 0.10
OUTPUT_LEVEL = 0.01
"""Share of exact matches 10 percentage points below the baseline's agreement with itself, and not by chance: batching
and different kernels flip single tokens in any engine, and one flip changes the rest of a text. Without a second trial
of the baseline: more than one text in ten differs."""

REPEAT_SHARE = 0.5
"""Greedy answers of a baseline that are the same in its next trial, where requests run together: batching flips a
token in some answers; half is a choice and was not measured. At a concurrency of 1 nothing flips them, and
`OUTPUT_SHARE` may differ."""

MOST_EXAMINED = 2000
"""Answers of a trial whose text is examined for errors and loops. A share among 2,000 is known to 2 percentage points;
looking at 100,000 texts would take seconds."""

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

DRAFT_RARE_SHARE = 0.5
"""Requests that drafted anything: a draft model drafts in nearly every request of more than a few tokens."""

CACHE_SHARE = 0.05
CACHE_TEMPLATE_TOKENS = 40
"""Prompt tokens from the prefix cache beyond what the plan's prompts share: 5% of all tokens is 5% of the prefill,
which is within the variation between trials. Every request shares the first tokens of its chat template with the
request before.
"""
CACHE_TTFT_RATIO = 2.0
CACHE_TTFT_MS = 10.0
CACHE_SLOWER = 0.9
CACHE_LEAST_REQUESTS = 4
"""A first trial that a cache did not help, on a server that reports no cache: at least 4 requests, and 9 of 10 took
twice as long to the first token as in later trials, and 10 ms longer, which a busy machine adds to quick answers.
A cold machine slows the first requests, not all of them."""

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
TRIALS_SLOWER_SHARE = 0.9
"""Best compared with worst trial of an arm: an undisturbed machine varies less. Interleaving arms cancels a drift only.
If nine in ten requests of the worst trial took longer, by 5% and more, and the round was not as slow in the other arms,
something changed between the trials; else some requests were disturbed, as on a busy machine (16% with a load of 16 on
2 cores), or the whole round, and the interval covers that."""
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

OTHER_CLIENTS_LEAST = 3
OTHER_CLIENTS_SHARE = 0.25
"""Readings of the server's running requests that are above what this client had open: a check of the server's health,
or a gauge that still has the request that just ended, is in single readings."""

FAILED_INVALID_SHARE = 0.10
"""With more failures than this, the other requests ran on a less loaded server: they measured a different load."""

OTHER_REQUESTS_SHARE = 0.02
"""Requests that one arm answered and another did not: up to one in fifty is left out of both. With more, the arms had
other loads, and what is left may be the easier part."""

SILENCE_S = 3.0
SILENCE_RATIO = 5.0
SILENCE_LEAST_REQUESTS = 4
"""A pause of 3 s and five times the usual longest one of a request: the prefill of a long prompt is shorter."""

RESENT_SHARE = 0.05
RESENT_COST = 0.1
RESENT_LEAST_MS = 10.0
"""Share of requests that were sent again: a server that closes idle connections meets a request on its way now and
then. One request in twenty means that it closes connections under load, so that latencies hold a second connection,
if that took a tenth of the usual TTFT. A server that closes an idle connection as the next request comes cost 0.2 to
11.7 ms, median 4 ms, with a load of 15 on 2 cores."""

EVIDENCE_MATCHES = 0.999
"""Share of equal outputs from which all outputs count as identical."""

BURST_TOKENS = 1.2
"""Mean tokens per burst: at this mean, with bursts of six among single tokens, half of all gaps may lie within a
burst."""

TEMPLATE_TOKENS = 64
"""By how many tokens a prompt may differ between arms: chat templates add a role, a date or a system prompt."""
PLACEHOLDER_TOKENS = 16
"""One number below 16 for prompts of different lengths is not a count, nor a context limit: no server has one so small.
"""
COUNTS_FAR_SHARE = 0.05
"""Prompts that may differ by more: one in twenty may be cut by a context that is just large enough."""
COUNTS_NOTED_SHARE = 0.01
"""Prompt tokens of two templates, or tokens of equal answers, that differ by more in total are not comparable in one
row."""
COUNTS_OUR_SHARE = 0.25
COUNTS_OUR_LEAST = 100
COUNTS_UNSEEN_TOKENS = 8
"""Tokens by a server and by a tokenizer in the same text: text read again gives the same tokens within some percent,
other vocabularies differ by 20% in prose. An answer may have 8 tokens that its text does not show: marks of channels,
an end, a stop text."""

CEILING_LEAST = 3
CEILING_TOKENS = 8
"""Three prompts with one count, the highest, whose counts in the baseline lie 8 tokens and more apart."""
CUT_SHARE = 0.75
CUT_USUAL_BYTES = 5.0
CUT_MOST_BYTES = 6.0
"""A quarter less than the baseline, which has fewer than 5 bytes a token, and more than 6: prose and code have 3 to 5.
"""
COUNTS_LINE_RESIDUAL = 0.2
"""Prompt tokens of two tokenizers lie on a line: prose and code move nine in ten by less than 20%."""
COUNTS_SAME_TEXT_TOKENS = 2
"""Tokens by which two counts of equal text may differ: an end token, and a role's header."""
REFUTED_SHARE = 0.001
"""Share of the requests with a refuted number below which the others are judged: among a million, some are odd."""
TRIAL_PROMPT_TOKENS = 8
PREFIX_TOKENS = 24
"""Tokens by which a prompt may differ between trials; and between one with a number of 9 digits in front, against a
prefix cache, and one without: 23 characters, of which some tokenizers make 14 tokens."""
COUNTS_LENGTH_RATIO = 1.3
COUNTS_LEAST_CHARACTERS = 500
"""Characters per token of two arms whose texts differ: prose and code of one tokenizer differ by up to 20%, and 500
characters are about 120 tokens."""

SATURATION_LEAST_REQUESTS = 24
SATURATION_LEAST_BACKLOG = 4
SATURATION_GROWTH = 1.5
SATURATION_DRAIN_SHARE = 0.1
"""A queue that grows with the run: from its second quarter to its last by half and by 4 requests, and its end takes 1.5
times as long as three in four requests of the first half took, and a tenth of the run. In simulation (Poisson arrivals,
one server or eight) 60 requests at 1.5 times the capacity are found in 88 to 95% of trials, and 24 in 59 to 79%; at 70%
of it 1 to 3% are."""
CONCURRENCY_SHARE = 0.8
CONCURRENCY_LEAST_SHARE = 0.5
"""The share of a closed loop's time at the asked concurrency: ten prompts for each stream leave 80% to 90%; below half
of it the result is one of start and end."""

CANNED_SHARE = 0.5
CANNED_LEAST_PROMPTS = 4
CANNED_LEAST_CHARACTERS = 32
"""One answer of 32 characters and more to over half of four different prompts: `Yes`, a label or a small JSON object
may be right for many prompts, a sentence is not."""
ERROR_SHARE = 0.02
ERROR_MOST_CHARACTERS = 400
"""One error in fifty answers: a model may quote an error where it was asked to, and then it writes more."""
REASONING_SHARE = 0.5
"""Half of the answers: a model that decides by itself when to reason does so for some prompts in any arm."""
LENGTH_RATIO = 1.33
LENGTH_LEVEL = 0.01
LENGTH_SAME_TOKENS = 0.1
LENGTH_LEAST_PROMPTS = 4
"""Answers of three quarters of the length, prompt by prompt and not by chance (a sign test at 1%): another quantisation
changes words, but not a third of the length."""
LENGTH_LEAST_CHARACTERS = 8
"""Characters by which an answer must differ on average: `Yes` and `Yes.` are the same work."""

STREAM_LEAST_TOKENS = 8
STREAM_SHARE = 0.2
STREAM_PIECE_TOKENS = 12
STREAM_LEAST_GAP_MS = 20.0
STREAM_LEAST_MS = 50.0
STREAM_HELD_PIECES = 3
STREAM_LATE_SHARE = 0.5
STREAM_TOKEN_CHARACTERS = 5
"""Answers of 8 tokens and more of which one in five arrived in one piece, or 12 tokens at a time: a step of a server
brings one token, or with a draft as many as it accepts. Pieces that follow within 20 ms were not held back: a fast
server sends several before a busy client reads again. Where nobody counted, 5 characters are taken for a token. Three
pieces at a time, from the first on, are held back too: speculation begins with one token, and its steps differ. A whole
answer within 50 ms may be joined by a scheduler that gives a process its turn late."""

WAITING_CPU_CORES = 0.2
WAITING_LEAST_READINGS = 10
"""Cores of an engine that waits for its turn. llama.cpp with 2 threads used 0.00 to 0.01, with `--poll` 0, 50 and 100.
A thread that spins (`OMP_WAIT_POLICY=active`, or a server that polls) takes all of a core that is free. Ten readings,
because the kernel counts in ticks of 10 ms, so that one reading is known to a tenth of a core."""
