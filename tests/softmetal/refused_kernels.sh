#!/bin/sh
# Kernels that mix address spaces do not compile, neither for the software device nor as clang's dialect check; the same
# kernel without the mistake does. usage: refused_kernels.sh SOURCE_DIR CXX
set -eu
source=$1 cxx=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
kernel() {
    cat >"$work/k.metal" <<EOF
#include <metal_stdlib>
using namespace metal;
inline float first(device const float* x) { return x[0]; }
kernel void k(device float* out [[buffer(0)]], constant float* c [[buffer(1)]], uint i [[thread_position_in_grid]]) {
    threadgroup float t[32];
    t[i] = c[i];
    $1
}
EOF
}
soft() {
    python3 "$source/scripts/metal_bindings.py" soft "$work/k.metal" -o "$work/k.cpp" --cxx "$cxx" -I "$source/src" &&
        "$cxx" -std=c++20 -fsyntax-only -w -I "$source/tests/softmetal/msl" -I "$source/tests" -I "$source/src" "$work/k.cpp"
}
dialect() { "$source/scripts/check_metal_dialect.sh" "$work/k.metal"; }
status=0
for check in soft dialect; do
    [ $check = soft ] || command -v clang++ >/dev/null || continue
    kernel 'out[i] = first(out);'
    $check >"$work/log" 2>&1 || { echo "$check: a right kernel does not compile"; cat "$work/log"; status=1; }
    for wrong in 'out[i] = first(t);' 'out[i] = first(c);' 'device float* p = t; out[i] = p[0];' 'threadgroup float* p = out; out[i] = p[0];' \
        'float mine[2] = {1, 2}; out[i] = first(mine);' 'c[i] = 1;'; do
        kernel "$wrong"
        if $check >"$work/log" 2>&1; then
            echo "$check: compiles, and should not: $wrong"
            status=1
        fi
    done
done
# What the generator does not take is named with its line.
refused() { # message, text
    printf '#include <metal_stdlib>\nusing namespace metal;\n%s\n' "$2" >"$work/k.metal"
    if python3 "$source/scripts/metal_bindings.py" soft "$work/k.metal" -o "$work/k.cpp" --cxx "$cxx" >"$work/log" 2>&1 ||
        ! grep -q "k.metal:3.*$1" "$work/log"; then
        echo "expected a refusal that says '$1' of: $2"
        cat "$work/log"
        status=1
    fi
}
refused 'no attribute' 'kernel void k(device float* x) { x[0] = 1; }'
refused 'returns void' 'kernel int k(device float* x [[buffer(0)]]) { return 1; }'
refused 'pointers to pointers' 'kernel void k(device float** x [[buffer(0)]]) {}'
refused 'no initial value' 'kernel void k(device float* x [[buffer(0)]]) { threadgroup float t = 1; }'
refused 'host_name' 'template <typename T> kernel void k(device T* x [[buffer(0)]]) {} template kernel decltype(k<float>) k<float>;'
exit $status
