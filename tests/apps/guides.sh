#!/bin/bash
# Every sh block of docs/guides/*.md and docs/SOURCES.md, or of the pages that are named, each page in an empty folder, as pasted; each
# command must end with 0, and curl must get no error. `smelt serve` runs beside what follows it, as in a terminal of its own.
# usage: guides.sh SMELT SOURCE_DIR [PAGE.md...]
set -eu
smelt=$(realpath "$1") source=$(realpath "$2")
shift 2
least=${#}
[ "$least" -gt 0 ] || { least=9; set -- "$source"/docs/guides/*.md "$source/docs/SOURCES.md"; }
command -v curl >/dev/null || { echo "curl is not installed: skipped"; exit 77; }
work=$(mktemp -d)
trap 'kill $(cat "$work"/servers 2>/dev/null) 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/bin"
ln -s "$smelt" "$work/bin/smelt"
cat >"$work/prelude" <<'PRELUDE'
smelt() {
    if [ "$1" != serve ]; then command smelt "$@"; return; fi
    local port=$guide_port
    case " $* " in *" --port "*) port=0 ;; esac  # beside another one
    command smelt $(printf '%s\n' "$@" | sed '/^--port$/,+1d') --port "$port" >server.out 2>server.err &
    echo $! >>"$servers"
    for _ in $(seq 300); do
        grep -q http server.out && return
        kill -0 $! || { cat server.err; return 1; }
        sleep 0.1
    done
    return 1
}
curl() { command curl --fail "$@"; }
PRELUDE
export PATH="$work/bin:$PATH" HF_HUB_OFFLINE=1 HF_HOME="$work/hub" XDG_STATE_HOME="$work/state" servers="$work/servers"
n=0
for guide in "$@"; do
    name=$(basename "$guide" .md)
    awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on' "$guide" >"$work/$name.sh"
    [ -s "$work/$name.sh" ] || continue
    mkdir "$work/$name"
    ln -s "$source/models" "$work/$name/models"
    guide_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    export guide_port SMELT_URL=http://127.0.0.1:$guide_port
    # The key is missing on purpose in one line, which prints the status.
    sed -i "s/127\.0\.0\.1:8080/127.0.0.1:$guide_port/; s/^\(curl .*-w '%{http_code}.*\)/command \1/" "$work/$name.sh"
    if ! (cd "$work/$name" && timeout 600 bash -euo pipefail -c ". ../prelude; . ../$name.sh" </dev/null >out 2>err); then
        echo "failed: $name"
        tail -5 "$work/$name/out"
        tail -20 "$work/$name/err"
        exit 1
    fi
    kill $(cat "$servers" 2>/dev/null) 2>/dev/null || true
    rm -f "$servers"
    n=$((n + 1))
done
echo "$n guides ran"
[ "$n" -ge "$least" ]
