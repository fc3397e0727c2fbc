#!/usr/bin/env bash
# Makes the searches and the map of studies/h200-search on a CUDA machine that tools/gpu_study.sh has prepared.
#
#   tools/gpu_search.sh draft | ngram | map    one of the three, where it left off, within LIMIT_S seconds: call it again
#                                 until it says "finished". The results are packed to $OUT each time
#   tools/gpu_search.sh all       the three, one after the other, for as long as there is time
#   tools/gpu_search.sh pack      what there is, to $OUT
#
# Needs the programs and the two models of tools/gpu_study.sh (its steps take, build and models). AT_ONCE: settings that
# are compared at once, by default as many as fit into the GPU's memory. LEVELS, PROMPTS, ANSWER_TOKENS, MINUTES, N_MAX and
# P_MIN (of the map's draft) replace the files' own. A search that was begun needs the same ones again.
set -euo pipefail

BEGAN=$(date +%s)
REPO=$(cd "$(dirname "$0")/.." && pwd)
LIMIT_S=${LIMIT_S:-570} # of one call
eval "$("$REPO/tools/gpu_study.sh" env)" # WORK, TARGET, DRAFT, PATH and PYTHONPATH
OUT=${OUT:-$WORK/out}
HERE=$WORK/search
LEVELS=${LEVELS:-1,2,4,8,16,32}
mkdir -p "$HERE" "$OUT"

say() { echo "[$(($(date +%s) - BEGAN)) s] $*"; }
left_s() { echo $((LIMIT_S - ($(date +%s) - BEGAN))); }

# A server takes about 20 GiB with a context of 2,048 tokens, one with a draft 22 GiB.
at_once() {
    local mib
    mib=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null | head -1 || true)
    local fits=$(((${mib:-143000} / 1024 - 20) / 22))
    echo "${AT_ONCE:-$((fits < 2 ? 2 : fits > 5 ? 5 : fits))}"
}

# NAME: a study's file with this machine's numbers, next to the models. Written once: --resume wants the same.
spec_of() {
    local file=$WORK/models/search-$1.yaml
    if [ ! -e "$file" ]; then
        sed -E "s/standin-qwen2.5-coder-32b-q4_k_m.gguf/$(basename "$TARGET")/; s/standin-qwen2.5-coder-1.5b-q8_0.gguf/$(basename "$DRAFT")/
            s/at_once: [0-9]+/at_once: $(at_once)/; s/-ngl, 99/-ngl, ${GPU_LAYERS:-99}/
            s/gpu_layers: 99/gpu_layers: ${GPU_LAYERS:-99}/; s/gpu_layers: \{choice: \[99\]/gpu_layers: {choice: [${GPU_LAYERS:-99}]/
            ${PROMPTS:+s/num_prompts: [0-9]+/num_prompts: $PROMPTS/}; ${ANSWER_TOKENS:+s/max_tokens: [0-9]+/max_tokens: $ANSWER_TOKENS/}
            ${MINUTES:+s/minutes: [0-9.]+/minutes: $MINUTES/}
            s/n_max: 8, p_min: 0.6/n_max: ${N_MAX:-8}, p_min: ${P_MIN:-0.6}/" "$REPO/studies/h200-search/$1.yaml" >"$file"
    fi
    echo "$file"
}

# NAME COMMAND...: runs `inferometer COMMAND` in the models' folder until it ends or the time is over.
run() {
    local name=$1 status=0
    shift
    if [ -e "$HERE/$name/finished" ]; then say "$name is finished" && return; fi
    if [ "$(left_s)" -lt 45 ]; then say "$name: no time left, call again" && return; fi
    (cd "$WORK/models" && timeout -s INT -k 20 "$(($(left_s) - 30))" python3 -m inferometer "$@" --out "$HERE/$name" --resume) \
        >"$HERE/$name.out" 2>"$HERE/$name.err" || status=$?
    tail -40 "$HERE/$name.out"
    if [ $status = 0 ]; then
        touch "$HERE/$name/finished"
        say "$name: finished"
    else
        tail -5 "$HERE/$name.err"
        say "$name ended with $status: call again for what is missing"
    fi
}

draft() { run draft tune "$(spec_of draft)"; }
ngram() { run ngram tune "$(spec_of ngram)"; }

map() {
    if [ -z "${N_MAX:-}" ] && [ -e "$HERE/draft/tuned.yaml" ]; then # the draft that the search found, if it found one
        N_MAX=$(sed -nE 's/^ +n_max: ([0-9]+)$/\1/p' "$HERE/draft/tuned.yaml" | tail -1)
        P_MIN=$(sed -nE 's/^ +p_min: ([0-9.]+)$/\1/p' "$HERE/draft/tuned.yaml" | tail -1)
    fi
    run map map "$(spec_of map)" --concurrency "$LEVELS"
}

pack() {
    cp "$WORK"/models/search-*.yaml "$HERE/" 2>/dev/null || true
    { nvidia-smi || true; nproc; free -g; uname -a; } >"$HERE/machine.txt" 2>&1
    tar -C "$WORK" -cJf "$OUT/search.tar.xz" search || true # a file may change under a second signal
    for name in draft ngram map; do
        if [ -e "$HERE/$name/summary.md" ]; then cp "$HERE/$name/summary.md" "$OUT/$name-summary.md"; fi
    done
    say "packed: $(du -h "$OUT/search.tar.xz" | cut -f1)"
}

case ${1:-} in
draft | ngram | map) trap pack EXIT && "$1" ;;
all) trap pack EXIT && draft && ngram && map ;;
pack) pack ;;
*)
    sed -n '2,13p' "$0"
    exit 2
    ;;
esac
