# Sourced by mac_compiles.sh: lays out in FOLDER what CMake finds on a Mac: the SDK's headers and Homebrew's folder, whose headers
# are links to those of this machine; libraries are empty files, since nothing is linked. usage: . prefix.sh; . mac.sh; mac FOLDER HEADERS SOFTMETAL
# The layout is Homebrew's: openssl@3 and libedit are linked nowhere, all else is in /opt/homebrew.
mac() {
    root=$1 sdk=$1/sdk prefix=$1/opt/homebrew
    rm -rf "$root"
    mkdir -p "$sdk/usr/include" "$sdk/usr/lib" "$prefix/include" "$prefix/lib/pkgconfig" "$prefix/opt/openssl@3/lib" "$root/bin"
    for folder in aarch64-macos.13-none any-macos.13-any any-macos-any; do cp -rn "$2/$folder/." "$sdk/usr/include"; done
    # What the SDK brings of other projects.
    ln -s "$(header_folder curl/curl.h)/curl" "$sdk/usr/include/curl"
    ln -s "$(header_folder editline/readline.h)/editline" "$sdk/usr/include/editline"
    : >"$sdk/usr/lib/libcurl.tbd" && : >"$sdk/usr/lib/libedit.tbd"

    # metal-cpp's classes as the software device has them.
    mkdir "$root/metal-cpp"
    ln -s "$3"/include/* "$3" "$root/metal-cpp/"

    package fmt fmt::fmt fmt
    package spdlog spdlog::spdlog spdlog
    package nlohmann_json nlohmann_json::nlohmann_json nlohmann
    package CLI11 CLI11::CLI11 CLI
    package Boost Boost::headers boost
    package GTest GTest::gtest gtest
    printf 'add_library(GTest::gtest_main ALIAS GTest::gtest)\n' >>"$prefix/lib/cmake/GTest/GTestConfig.cmake"
    header toml++
    pkg_config libpcre2-8 pcre2.h dylib
    pkg_config libutf8proc utf8proc.h dylib
    image_libraries dylib
    openssl=$prefix/opt/openssl@3
    openssl_headers "$openssl/include"
    : >"$openssl/lib/libssl.dylib" && : >"$openssl/lib/libcrypto.dylib"

    printf '#!/bin/sh\n[ "$*" = "--prefix openssl@3" ] && echo "%s"\n' "$openssl" >"$root/bin/brew"
    # Xcode without the Metal toolchain; a second configuration has it.
    printf '#!/bin/sh\n[ -n "${SMELT_TEST_METAL:-}" ]\n' >"$root/bin/xcrun"
    chmod +x "$root/bin/brew" "$root/bin/xcrun"
}
