#!/bin/sh
# Packs the build as .deb and .tar.zst, and uses both where nothing of the build is: the .deb in a chroot that has the
# libraries of the packages it depends on and no others, the archive in a folder of any name.
# usage: deb.sh BUILD_DIR SOURCE_DIR. Exit 77 (skipped) without root, dpkg-deb, cpack or zstd.
set -eu
build=$1 source=$2
for tool in cpack dpkg-deb dpkg-shlibdeps zstd chroot; do
    command -v $tool >/dev/null || { echo "no $tool: skipped"; exit 77; }
done
[ "$(id -u)" = 0 ] || { echo "a chroot needs root: skipped"; exit 77; }
work=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill $server; fi 2>/dev/null; umount "$work/root/proc" 2>/dev/null; rm -rf "$work"' EXIT

cpack --config "$build/CPackConfig.cmake" -B "$work/out" -D CPACK_COMPONENTS_ALL=command >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
deb=$(echo "$work"/out/smelt_*.deb) archive=$(echo "$work"/out/smelt-*-command.tar.zst)
dpkg-deb -I "$deb"

# The .deb: its command needs nothing that its Depends does not bring.
root=$work/root
mkdir -p "$root/models" "$root/tmp" "$root/proc"
dpkg-deb -x "$deb" "$root"
[ -x "$root/usr/bin/smelt" ] && [ -f "$root/usr/lib/systemd/system/smelt.service" ]
[ -f "$root/usr/share/man/man1/smelt.1" ] && [ -f "$root/usr/share/bash-completion/completions/smelt" ]
if readelf -S "$root/usr/bin/smelt" | grep -q ' \.symtab'; then echo "the command is not stripped"; exit 1; fi
depends=$(dpkg-deb -f "$deb" Depends)
needed=$(readelf -d "$root/usr/bin/smelt" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
for library in $needed; do
    path=$(ldd "$root/usr/bin/smelt" | awk -v l="$library" '$1 == l || $1 ~ "/" l "$" { print ($2 == "=>" ? $3 : $1); exit }')
    package=$(dpkg -S "$(readlink -f "$path")" "$path" 2>/dev/null | head -1 | cut -d: -f1)
    found=no  # under its name, or one that it provides
    for name in $package $(dpkg-query -W -f '${Provides}' "$package" | sed 's/([^)]*)//g; s/,/ /g'); do
        case ", $depends," in *", $name "* | *", $name,"*) found=yes ;; esac
    done
    [ $found = yes ] || { echo "$library is of $package, which Depends lacks: $depends"; exit 1; }
done
for path in $(ldd "$root/usr/bin/smelt" | awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^\//) { print $i; break } }'); do
    mkdir -p "$root$(dirname "$path")"
    cp -L "$path" "$root$path"
done
cp -r "$source/models/demo-5m" "$root/models/"
# How much memory is free is known from there.
mount -t proc proc "$root/proc" || { echo "/proc cannot be mounted in the chroot: skipped"; exit 77; }
chroot "$root" /usr/bin/smelt version
chroot "$root" /usr/bin/smelt run /models/demo-5m --prompt 'What is 12 + 30?' --temperature 0 | grep 42

# Serving in there, too.
mkfifo "$work/address"
chroot "$root" /usr/bin/smelt serve /models/demo-5m --port 0 -q >"$work/address" &
server=$!
read -r address <"$work/address"
python3 - "$address" <<'PY'
import json, sys, urllib.request
body = json.dumps({"text_input": "The capital of France is", "max_tokens": 4}).encode()
with urllib.request.urlopen(sys.argv[1] + "/v2/models/demo-5m/generate", body) as answer:
    assert json.load(answer)["text_output"]
PY
kill $server
wait $server
server=

# The archive runs where it is unpacked.
mkdir "$work/any where"
tar --zstd -xf "$archive" -C "$work/any where"
"$(find "$work/any where" -path '*/bin/smelt')" run "$source/models/demo-5m" --prompt 'What is 12 + 30?' --temperature 0 | grep 42

# Homebrew's formula asks for what setup.sh installs there, but for the tests' package.
formula=$(sed -n 's/^ *depends_on "\([^"]*\)".*/\1/p' "$source/packaging/smelt.rb" | sort | tr '\n' ' ')
setup=$(sed -n 's/^homebrew="\(.*\)"/\1/p' "$source/scripts/setup.sh" | tr ' ' '\n' | grep -v googletest | sort | tr '\n' ' ')
[ "$formula" = "$setup" ] || { echo "smelt.rb: $formula; setup.sh: $setup"; exit 1; }
