#!/bin/sh
# Installs what smelt builds with, if it is missing. usage: scripts/setup.sh [--print | --tests]
# --tests: also what tests use: the browser of the pages' tests (where npm is there to drive it), the compilers of Macs and of
# 64-bit Arm, what draws PNG and PDF. A test whose package a distribution does not have is skipped and says so.
# Debian and Ubuntu: apt-get (with sudo where needed); macOS: Homebrew.
set -eu

debian="build-essential cmake ninja-build pkg-config libfmt-dev libspdlog-dev nlohmann-json3-dev libcli11-dev
libpcre2-dev libutf8proc-dev libedit-dev libboost-dev libboost-context-dev python3 python3-jsonschema libssl-dev libcurl4-openssl-dev libtomlplusplus-dev libgtest-dev
libpng-dev libjpeg-dev libwebp-dev libgif-dev"
# Installed where the distribution has them.
tests="valgrind mypy libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc python3-grpcio clang-16 clang-19 g++-aarch64-linux-gnu qemu-user librsvg2-2 fonts-dejavu-core"
# macOS itself brings libedit and libcurl.
homebrew="cmake ninja pkgconf fmt spdlog nlohmann-json cli11 pcre2 utf8proc boost openssl@3 tomlplusplus googletest libpng jpeg-turbo webp giflib"

have() {
    case $1 in
    # Any version of Boost will do.
    libboost-dev) pattern='libboost1.*-dev' ;;
    libboost-context-dev) pattern='libboost-context1.*-dev' ;;
    *) pattern=$1 ;;
    esac
    dpkg-query -W -f='${Package} ${Status}\n' "$pattern" 2>/dev/null | grep -v '^libboost1.*-all-dev' | grep -q 'ok installed'
}

case "$(uname -s)" in
Darwin)
    if [ "${1:-}" = --print ]; then echo "brew install $homebrew"; exit; fi
    command -v brew >/dev/null || { echo "smelt needs Homebrew (https://brew.sh) to install: $homebrew" >&2; exit 1; }
    for p in $homebrew; do brew list "$p" >/dev/null 2>&1 || missing="${missing:-} $p"; done
    [ -z "${missing:-}" ] || brew install $missing
    ;;
*)
    if [ "${1:-}" = --print ]; then echo "apt-get install -y --no-install-recommends" $debian; exit; fi
    command -v apt-get >/dev/null || { echo "smelt needs these packages (Debian's names); install them and build with cmake:" $debian >&2; exit 1; }
    for p in $debian; do have "$p" || missing="${missing:-} $p"; done
    wanted=
    if [ "${1:-}" = --tests ]; then
        if command -v npm >/dev/null; then tests="$tests chromium"; fi
        for p in $tests; do have "$p" || wanted="$wanted $p"; done
    fi
    [ -n "${missing:-}$wanted" ] || exit 0
    sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -q >&2
    for p in $wanted; do
        if apt-cache show "$p" >/dev/null 2>&1; then missing="${missing:-} $p"; else echo "smelt: no package $p here; its tests are skipped" >&2; fi
    done
    [ -n "${missing:-}" ] || exit 0
    echo "smelt: installing${missing:-}" >&2
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing >&2
    ;;
esac
