#!/bin/sh
# Names the sources that clang-format would change; exit 1 if there are any, 77 (skipped) where clang-format 14 is not installed: other
# versions lay out some lines differently.
set -u
cd "$(dirname "$0")/.."
for tool in clang-format-14 clang-format; do
    if "$tool" --version 2>/dev/null | grep -q 'version 14\.'; then
        find src tests fuzz bench examples -name '*.cpp' -o -name '*.h' | sort | xargs "$tool" --dry-run --Werror && exit 0
        echo "run: $tool -i FILE" >&2
        exit 1
    fi
done
echo "clang-format 14 is not installed: skipped"
exit 77
