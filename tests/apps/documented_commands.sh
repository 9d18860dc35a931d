#!/bin/sh
# Every curl of README.md, docs/SERVER.md and docs/KSERVE_AND_TRITON.md, as pasted, against the server that README.md starts; each must get 200.
# usage: documented_commands.sh SMELT SOURCE_DIR. Exit 77 (skipped) where curl is not installed.
set -eu
smelt=$1 source=$2
command -v curl >/dev/null || { echo "curl is not installed: skipped"; exit 77; }
work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$source"
mkfifo "$work/address"
"$smelt" serve small=models/demo-5m large=models/demo-23m --port 0 -q >"$work/address" &
server=$!
read -r address <"$work/address"
grep -h '^curl ' README.md docs/SERVER.md docs/KSERVE_AND_TRITON.md | sort -u |
    sed "s|http://127.0.0.1:8080|$address|; s|^curl |curl -sS -o /dev/null -w '%{http_code}\\\\n' |" >"$work/commands"
n=0
while read -r command; do
    code=$(sh -c "$command")
    [ "$code" = 200 ] || { echo "$code: $command"; exit 1; }
    n=$((n + 1))
done <"$work/commands"
echo "$n commands answered"
[ "$n" -ge 15 ]
