#!/bin/sh
# Installs what smelt builds with, if it is missing. usage: scripts/setup.sh [--print | --tests]
# --tests: also the browser for the tests of the pages, where Node and npm are there to drive it.
# Debian/Ubuntu: apt-get (with sudo where needed); macOS: Homebrew.
set -eu

debian="build-essential cmake ninja-build pkg-config libfmt-dev libspdlog-dev nlohmann-json3-dev libcli11-dev
libpcre2-dev libutf8proc-dev libedit-dev libboost1.81-dev libboost-context1.81-dev python3 python3-jsonschema libssl-dev libcurl4-openssl-dev libtomlplusplus-dev libgtest-dev"
homebrew="cmake ninja pkgconf fmt spdlog nlohmann-json cli11 pcre2 utf8proc libedit boost openssl@3 tomlplusplus googletest"

if [ "${1:-}" = --tests ] && command -v npm >/dev/null; then debian="$debian chromium"; fi

case "$(uname -s)" in
Darwin)
    if [ "${1:-}" = --print ]; then echo "brew install $homebrew"; exit; fi
    command -v brew >/dev/null || { echo "smelt needs Homebrew (https://brew.sh) to install: $homebrew" >&2; exit 1; }
    for p in $homebrew; do brew list "$p" >/dev/null 2>&1 || missing="${missing:-} $p"; done
    [ -z "${missing:-}" ] || brew install $missing
    ;;
*)
    if [ "${1:-}" = --print ]; then echo "apt-get install -y --no-install-recommends $debian"; exit; fi
    command -v apt-get >/dev/null || { echo "smelt needs these packages (Debian's names); install them and build with cmake: $debian" >&2; exit 1; }
    for p in $debian; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="${missing:-} $p"
    done
    if [ -n "${missing:-}" ]; then
        sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
        echo "smelt: installing$missing" >&2
        $sudo apt-get update -q >&2
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing >&2
    fi
    ;;
esac
