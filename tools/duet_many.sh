#!/usr/bin/env bash
# Runs benchmarks/duet.py in several processes side by side, each pinned to two
# cores of its own, the engines to one of these, and merges their results.
#
#   tools/duet_many.sh unpack    the wheels and the model, from the pieces that were carried so far: call it after each
#                                piece, until it prints "ready"
#   tools/duet_many.sh run       all studies, for at most SECONDS_ALL seconds; then the table
#   tools/duet_many.sh pieces    on a machine with internet: the pieces (wheels and model), in gpu-duet/01 and on
#
# Needs Python 3.12 and 2 cores for each process; no internet. Work is kept in $WORK, which must survive between calls.
# MODEL=FILE or SITE= (the packages are installed) replace what the pieces bring.
set -euo pipefail

REPO=$(cd "$(dirname "$0")/.." && pwd)
PIECES=${PIECES:-$REPO/gpu-duet}
WORK=${WORK:-/tmp/inferometer-duet}
OUT=${OUT:-$WORK/out}
PYTHON=${PYTHON:-python3}
FIRST_CORE=${FIRST_CORE:-0}
FIRST_SEED=${FIRST_SEED:-1}      # the seed of a further run must differ from all seeds before
APART=${APART:-1}                # 2: each process gets every second core, so that no two threads share a physical core
PROCESSES=${PROCESSES:-$(($(nproc) / 2 / ${APART:-1}))}
STUDIES=${STUDIES:-40}           # of each kind, in all
SECONDS_ALL=${SECONDS_ALL:-570}  # of `run`; no study begins that would end later
PIECE_MB=${PIECE_MB:-37}
MODEL=${MODEL:-$WORK/main/SmolLM2-135M-Instruct.Q4_1.gguf}
SITE=${SITE-$WORK/site}

unpack() {
    mkdir -p "$WORK/pieces"
    find "$PIECES" -path "$PIECES/held" -prune -o \( -name '*.tar.[0-9][0-9]' -o -name '*.sha256' \) -exec cp -n {} "$WORK/pieces/" \;
    local name
    for name in main scipy; do
        if cat "$WORK/pieces/$name".tar.* 2>/dev/null | sha256sum -c --status "$WORK/pieces/$name.sha256" 2>/dev/null; then
            cat "$WORK/pieces/$name".tar.* | tar -C "$WORK" -x
            "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$SITE" \
                "$WORK/$name"/whl/*.whl
        fi
    done
    if ! PYTHONPATH="$REPO/src:$SITE" "$PYTHON" -c "import numpy, scipy, inferometer.study.loop, xllamacpp" 2>"$WORK/why"; then
        echo "not ready ($(tail -1 "$WORK/why")); pieces so far: $(ls "$WORK/pieces" | tr '\n' ' ')"
    else
        echo ready
    fi
}

run() {
    local began=$SECONDS part each core
    each=$(((STUDIES + PROCESSES - 1) / PROCESSES))
    export PYTHONPATH="$REPO/src${SITE:+:$SITE}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
    mkdir -p "$OUT"
    local running=()
    for part in $(seq 0 $((PROCESSES - 1))); do
        core=$((FIRST_CORE + 2 * APART * part))
        setsid "$PYTHON" "$REPO/benchmarks/duet.py" --model "$MODEL" --studies "$each" --seed $((FIRST_SEED + part)) \
            --cores "$core,$((core + APART))" --engine-core "$core" --seconds $((SECONDS_ALL - 25)) --out "$OUT/part-$part.json" ${ARGS:-} \
            >"$OUT/part-$part.log" 2>&1 &
        running+=($!)
    done
    while [ -n "$(jobs -rp)" ] && [ $((SECONDS - began)) -lt "$SECONDS_ALL" ]; do sleep 1; done
    for part in "${running[@]}"; do kill -TERM -- "-$part" 2>/dev/null || true; done # a study that is too slow
    wait || true
    { nproc; uname -rm; grep -m1 'model name' /proc/cpuinfo; "$PYTHON" -V; } | tr '\n' ';' | tee "$OUT/machine.txt"
    echo
    "$PYTHON" "$REPO/benchmarks/duet.py" --merge "$OUT"/part-*.json | tee "$OUT/duet.md"
    cat "$OUT"/part-*.log >"$OUT/parts.log" # few files come back
    rm "$OUT"/part-*.log
    cat "$OUT"/part-*.json >"$OUT/parts.jsonl"
    rm "$OUT"/part-*.json
}

pieces() {
    local held=$PIECES/held platforms=() minor name
    for minor in 39 38 37 36 35 34 33 32 31 30 28 27 26 24 17 12 5; do
        platforms+=(--platform "manylinux_2_${minor}_x86_64") # pip compares the number in a platform tag exactly
    done
    platforms+=(--platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64)
    rm -rf "$PIECES"
    mkdir -p "$held/main/whl" "$held/scipy/whl"
    "$PYTHON" -m pip download -q --no-deps --only-binary :all: --python-version "${FOR_PYTHON:-3.12}" --implementation cp \
        "${platforms[@]}" --require-hashes -r "$REPO/requirements/base.txt" -d "$held/main/whl"
    mv "$held"/main/whl/{numpy,scipy}-*.whl "$held/scipy/whl/" # the machine probably has these two
    cp "$MODEL" "$held/main/"
    local next=1
    for name in main scipy; do
        tar -C "$held" -cf "$held/$name.tar" "$name"
        split -d -a 2 --numeric-suffixes=$next -b "${PIECE_MB}M" "$held/$name.tar" "$PIECES/$name.tar."
        sha256sum <"$held/$name.tar" >"$PIECES/$name.sha256"
        next=$((next + $(ls "$PIECES/$name".tar.* | wc -l)))
    done
    local piece
    for piece in "$PIECES"/*.tar.*; do
        mkdir -p "$PIECES/${piece##*.}"
        mv "$piece" "$PIECES/${piece##*.}/"
    done
    mv "$PIECES"/*.sha256 "$PIECES/01/"
    rm -rf "$held"
    du -sh "$PIECES"/[0-9]*
}

case ${1:-} in
unpack | run | pieces) "$1" ;;
*)
    sed -n '2,11p' "$0"
    exit 2
    ;;
esac
