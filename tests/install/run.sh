#!/bin/sh
# Installs a build into an empty prefix and builds against it, once with find_package and once with pkg-config, the
# programs of examples/ and those on the page docs/LIBRARY.md; all must answer with the bundled model. Public headers alone
# are installed. usage: run.sh BUILD_DIR SOURCE_DIR
set -eu
build=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=$source/models/demo-5m question="What is 12 + 30?"

cmake --install "$build" --prefix "$work/prefix" >/dev/null
"$work/prefix/bin/smelt" --version
headers=$(cd "$work/prefix/include" && find . -type f | sort | tr '\n' ' ')
[ "$headers" = "./smelt.h ./smelt_c.h " ] || { echo "installed headers: expected smelt.h and smelt_c.h, found $headers" >&2; exit 1; }

# The examples, with find_package.
cmake -S "$source/examples" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$work/cmake" >/dev/null
"$work/cmake/answer" "$model" "$question" | grep '= 42'
"$work/cmake/answer_c" "$model" "$question" | grep '= 42'
printf 'What is 12 + 30?\nWhat is 12 + 31?\n' | "$work/cmake/batch" "$model" >"$work/batch.txt"
sed -n 1p "$work/batch.txt" | grep '= 42'
sed -n 2p "$work/batch.txt" | grep '= 43'
"$work/cmake/loop" "$model" >"$work/loop.txt"
[ "$(wc -l <"$work/loop.txt")" -ge 12 ]
grep 'What is 12 + 30? .*42' "$work/loop.txt"
if grep 'error:' "$work/loop.txt"; then exit 1; fi
# A failure is one line on stderr and exit 1.
for program in answer answer_c; do
    status=0
    "$work/cmake/$program" /no/such/model x >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = 1 ] && [ ! -s "$work/out" ] && [ "$(wc -l <"$work/err")" = 1 ]
    grep -q '/no/such/model' "$work/err"
done

# The same with pkg-config; the C program with the C compiler from beginning to end.
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name smelt.pc)")
export PKG_CONFIG_PATH
flags=$(pkg-config --define-variable=prefix="$work/prefix" --cflags --libs smelt)
strict="-Wall -Wextra -Werror -pedantic"
c++ -std=c++17 $strict "$source/examples/answer.cpp" -o "$work/answer" $flags
"$work/answer" "$model" "$question" | grep '= 42'
cc -std=c99 $strict "$source/examples/answer.c" -o "$work/answer_c" $flags
"$work/answer_c" "$model" "$question" | grep '= 42'

# The page: one block of each language.
block() { awk -v fence="\`\`\`$1" '$0 == fence { inside = 1; next } /^```/ { inside = 0 } inside' "$source/docs/LIBRARY.md"; }
mkdir "$work/page"
block cpp >"$work/page/program.cpp"
block c >"$work/page/program.c"
block cmake >"$work/page/CMakeLists.txt"
cmake -S "$work/page" -B "$work/page/build" -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
cmake --build "$work/page/build" >/dev/null
cc -std=c99 $strict "$work/page/program.c" -o "$work/page/program_c" $flags
c++ -std=c++17 $strict "$work/page/program.cpp" -o "$work/page/program_cpp" $flags
cd "$source"
for program in build/program program_c program_cpp; do "$work/page/$program" | grep '42'; done
