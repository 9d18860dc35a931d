#!/bin/sh
# Compiles (syntax only) the kernel files as what Metal 3.1 is: C++14 with the vectors and address spaces of clang.
# usage: scripts/check_metal_dialect.sh [FILE.metal...]
set -eu
cd "$(dirname "$0")/.."
command -v clang++ >/dev/null || { echo "clang++ is not installed: skipped" >&2; exit 77; }
[ $# -gt 0 ] || set -- src/backend/metal/*.metal
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
status=0
for file in "$@"; do
    # Metal's compiler, too, takes static_assert without a text.
    if python3 scripts/metal_bindings.py dialect "$file" -o "$out/kernels.cpp" --cxx clang++ -I src &&
        clang++ -std=c++14 -fsyntax-only -fsigned-char -Wall -Wextra -Werror -Wno-c++17-extensions -Wno-unused-function \
            -Wno-unknown-pragmas -Wno-unused-parameter -Wno-unused-const-variable -Wno-shift-op-parentheses \
            $(clang++ -dumpmachine | grep -q x86_64 && echo -mavx512fp16) -I tests/softmetal/dialect "$out/kernels.cpp"; then
        echo "$file: ok"
    else
        status=1
    fi
done
exit $status
