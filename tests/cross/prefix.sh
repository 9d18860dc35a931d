# Sourced by tests that compile for another machine: lays out a folder with the headers of this machine's packages, as links,
# and what CMake's find_package and pkg-config ask. $prefix is the folder. Libraries are empty files: nothing is linked with them.
header_folder() { # of a header of this machine
    for folder in /usr/include "/usr/include/$(cc -dumpmachine)" /usr/local/include; do
        if [ -e "$folder/$1" ]; then echo "$folder"; return; fi
    done
    echo "$1 is not installed (scripts/setup.sh): skipped" >&2
    exit 77
}

header() { # into the include folder
    from=$(header_folder "$1") || exit 77
    ln -sfn "$from/$1" "$prefix/include/$1"
}

openssl_headers() { # FOLDER
    mkdir -p "$1/openssl"
    for folder in /usr/include/openssl "/usr/include/$(cc -dumpmachine)/openssl"; do
        [ ! -d "$folder" ] || ln -sf "$folder"/* "$1/openssl/"
    done
}

package() { # NAME TARGET HEADER [DEFINITION]: what find_package finds
    header "$3"
    mkdir -p "$prefix/lib/cmake/$1"
    cat >"$prefix/lib/cmake/$1/$1Config.cmake" <<END
add_library($2 INTERFACE IMPORTED)
set_target_properties($2 PROPERTIES INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "$prefix/include" INTERFACE_INCLUDE_DIRECTORIES "$prefix/include"
    INTERFACE_COMPILE_DEFINITIONS "${4:-}")
END
    printf 'set(PACKAGE_VERSION 99)\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n' >"$prefix/lib/cmake/$1/$1ConfigVersion.cmake"
}

pkg_config() { # NAME HEADER SUFFIX_OF_LIBRARIES
    header "$2"
    : >"$prefix/lib/$1.$3"
    printf 'Name: %s\nDescription: %s\nVersion: 99\nLibs: -L%s -l%s\nCflags: -I%s\n' "$1" "$1" "$prefix/lib" "${1#lib}" "$prefix/include" \
        >"$prefix/lib/pkgconfig/$1.pc"
}

image_libraries() { # SUFFIX_OF_LIBRARIES
    for file in pngconf.h pnglibconf.h jconfig.h jmorecfg.h jerror.h gif_lib.h; do header "$file"; done
    pkg_config libpng png.h "$1"
    pkg_config libjpeg jpeglib.h "$1"
    pkg_config libwebp webp "$1"
    : >"$prefix/lib/libgif.$1"
}
