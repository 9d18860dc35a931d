#!/bin/sh
# Compiles (syntax only) the Metal backend's host code against Apple's metal-cpp, here with stand-ins for the headers of
# macOS, so that a call that Apple's headers do not have is found on any machine with clang.
# usage: scripts/check_metal_cpp.sh DIR     DIR: a folder with Metal/Metal.hpp, e.g. a copy from developer.apple.com/metal/cpp
set -eu
cd "$(dirname "$0")/.."
dir=${1:-${METAL_CPP:-}}
[ -f "$dir/Metal/Metal.hpp" ] || { echo "usage: scripts/check_metal_cpp.sh DIR with Metal/Metal.hpp; skipped" >&2; exit 77; }
command -v clang++ >/dev/null || { echo "clang++ is not installed: skipped" >&2; exit 77; }
status=0
for file in src/backend/metal/*.cpp; do
    [ -f "$file" ] || continue
    # Apple's headers use C's unsigned enums and unused parameters as they like: warnings of ours count, theirs do not.
    if clang++ -std=c++20 -fsyntax-only -fblocks -Wall -Wextra -Werror -isystem tests/softmetal/apple -isystem "$dir" \
        -include tests/softmetal/apple/prelude.h -I src "$file"; then
        echo "$file: ok"
    else
        status=1
    fi
done
exit $status
