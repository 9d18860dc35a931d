#!/bin/sh
# Installs a build into an empty prefix and builds examples/answer.cpp against it, once with find_package and once with
# pkg-config; both must answer with the bundled model. usage: run.sh BUILD_DIR SOURCE_DIR
set -eu
build=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/prefix" >/dev/null
"$work/prefix/bin/smelt" --version

cmake -S "$source/examples" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$work/cmake" >/dev/null
"$work/cmake/answer" "$source/models/demo-5m" "What is 12 + 30?" | grep '= 42'

PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name smelt.pc)")
export PKG_CONFIG_PATH
c++ "$source/examples/answer.cpp" -o "$work/answer" $(pkg-config --define-variable=prefix="$work/prefix" --cflags --libs smelt)
"$work/answer" "$source/models/demo-5m" "What is 12 + 30?" | grep '= 42'
