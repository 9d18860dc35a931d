#!/bin/sh
# Compiles kernel files, the benchmark and the device of metal_cuda with nvcc, which needs no GPU; nothing is linked or run.
# usage: scripts/check_metal_cuda.sh [FILE.metal...]     without files: some that take seconds
set -eu
cd "$(dirname "$0")/.."
nvcc=$(command -v nvcc || command -v /usr/local/cuda/bin/nvcc) || { echo "nvcc is not installed: skipped" >&2; exit 77; }
m=src/backend/metal
[ $# -gt 0 ] || set -- $m/matmul_row.metal $m/norm.metal $m/sample.metal $m/top_k.metal
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
compile() { # source, what it is
    # As cmake/metal.cmake has them, but for what the result is good for.
    "$nvcc" -std=c++20 -arch=sm_90 -O1 -fmad=false --expt-relaxed-constexpr -x cu -diag-suppress 1835,2506,177,128 -Xcompiler -fsigned-char,-Wno-literal-suffix \
        -Itests/softmetal/cuda -Itests/softmetal/include -Itests -Isrc -c "$1" -o "$out/object"
    echo "$2: ok"
}
for file in "$@"; do
    python3 scripts/metal_bindings.py cuda "$file" -o "$out/kernels.cpp" --cxx "${CXX:-c++}" -I src
    compile "$out/kernels.cpp" "$file"
done
for file in tests/softmetal/cuda/execute.cu bench/metal_cuda_bench.cu; do compile $file $file; done
