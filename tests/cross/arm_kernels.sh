#!/bin/sh
# Builds the conformance suite for 64-bit Arm, with the kernels for NEON and its dot products, and runs it in qemu. Says
# nothing of speed. usage: arm_kernels.sh SOURCE WORK    Exit 77 (skipped) where a package is missing.
set -eu
source=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
here=$source/tests/cross
. "$here/prefix.sh"
skip() { echo "$1 (scripts/setup.sh --tests): skipped"; exit 77; }
command -v aarch64-linux-gnu-g++ >/dev/null || skip "g++-aarch64-linux-gnu is not installed"
command -v qemu-aarch64 >/dev/null || skip "qemu-user is not installed"
[ -f /usr/src/googletest/googletest/src/gtest-all.cc ] || skip "googletest is not installed"

prefix=$work/prefix
if [ ! -f "$prefix/done" ]; then
    rm -rf "$prefix"
    mkdir -p "$prefix/include" "$prefix/lib/pkgconfig"
    # Whole in their headers; GoogleTest from its source.
    package fmt fmt::fmt fmt FMT_HEADER_ONLY
    package spdlog spdlog::spdlog spdlog "SPDLOG_FMT_EXTERNAL;FMT_HEADER_ONLY"
    package nlohmann_json nlohmann_json::nlohmann_json nlohmann
    package CLI11 CLI11::CLI11 CLI
    package Boost Boost::headers boost
    package GTest GTest::gtest gtest
    cat >"$prefix/lib/cmake/GTest/GTestConfig.cmake" <<END
add_library(gtest STATIC /usr/src/googletest/googletest/src/gtest-all.cc /usr/src/googletest/googletest/src/gtest_main.cc)
target_include_directories(gtest SYSTEM PUBLIC $prefix/include PRIVATE /usr/src/googletest/googletest)
target_compile_options(gtest PRIVATE -w)
add_library(GTest::gtest ALIAS gtest)
add_library(GTest::gtest_main ALIAS gtest)
END
    header toml++
    header editline
    pkg_config libpcre2-8 pcre2.h so
    pkg_config libutf8proc utf8proc.h so
    image_libraries so
    openssl_headers "$prefix/include"
    ln -s "$(header_folder curl/curl.h)/curl" "$prefix/include/curl"
    for library in ssl crypto curl edit; do : >"$prefix/lib/lib$library.so"; done
    touch "$prefix/done"
fi
PKG_CONFIG_LIBDIR="$prefix/lib/pkgconfig" cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_TOOLCHAIN_FILE="$here/arm.cmake" \
    -DSMELT_PREFIX="$prefix" >"$work/configure.log" 2>&1 || { cat "$work/configure.log"; exit 1; }
nice ninja -C "$work/build" ops_test quant_test
# The first has no dot products.
for processor in cortex-a53 max; do
    for test in ops_test quant_test; do
        echo "$test on $processor"
        qemu-aarch64 -cpu $processor -L /usr/aarch64-linux-gnu "$work/build/tests/$test" --gtest_brief=1
    done
done
