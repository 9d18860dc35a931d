#!/bin/sh
# packaging/smelt.service in systemd's own eyes, where systemd-analyze is installed; else exit 77 (skipped).
# usage: unit.sh SMELT SOURCE_DIR
set -eu
command -v systemd-analyze >/dev/null || { echo "systemd-analyze is not installed: skipped"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed "s|/usr/bin/smelt|$1|" "$2/packaging/smelt.service" >"$work/smelt.service"
systemd-analyze verify "$work/smelt.service"
# Exposure of 10 is none of systemd's protections, 0 all of them.
systemd-analyze security --offline=true --threshold=20 "$work/smelt.service" | tail -1
