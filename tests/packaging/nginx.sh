#!/bin/sh
# packaging/nginx.conf in front of two servers: balanced, streamed without buffering, and one of them may die.
# usage: nginx.sh SMELT MODEL SOURCE_DIR. Exit 77 (skipped) where nginx or curl is not installed.
set -eu
smelt=$1 model=$2 source=$3
for tool in nginx curl; do
    command -v $tool >/dev/null || { echo "$tool is not installed: skipped"; exit 77; }
done
work=$(mktemp -d)
trap 'kill $pids 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
pids=

serve() {
    mkfifo "$work/address$1"
    "$smelt" serve demo="$model" --port 0 -q >"$work/address$1" &
    pids="$pids $!"
    eval "server$1=$!"
    read -r address <"$work/address$1"
    eval "port$1=${address##*:}"
}
serve 1
serve 2

# A port that is free now; another is tried where nginx finds it taken.
for try in 1 2 3 4 5; do
    port=$((20000 + ($$ * 7 + try * 1009) % 20000))
    sed -e "s/:8081/:$port1/; s/:8082/:$port2/; s/listen 127.0.0.1:8080/listen 127.0.0.1:$port/" \
        -e "1i pid $work/pid; error_log $work/error.log;" \
        -e "s|^http {|http { access_log $work/access.log; client_body_temp_path $work/body; proxy_temp_path $work/proxy; fastcgi_temp_path $work/f; uwsgi_temp_path $work/u; scgi_temp_path $work/s;|" \
        "$source/packaging/nginx.conf" >"$work/nginx.conf"
    nginx -t -q -c "$work/nginx.conf" -p "$work"
    if nginx -c "$work/nginx.conf" -p "$work" 2>"$work/start.log"; then break; fi
    [ "$try" != 5 ] || { cat "$work/start.log"; exit 1; }
done
pids="$pids $(cat "$work/pid")"
url=http://127.0.0.1:$port

ask() {
    curl -sS -o /dev/null -w '%{http_code}' "$url/v1/completions" -d '{"prompt": "a", "max_tokens": 4}'
}
accepted() {
    curl -sS "http://127.0.0.1:$1/metrics" | sed -n 's/^smelt_requests_accepted_total.* //p'
}
for i in 1 2 3 4 5 6 7 8; do [ "$(ask)" = 200 ] || { echo "request $i failed"; exit 1; }; done
a=$(accepted "$port1") b=$(accepted "$port2")
echo "balanced: $a and $b of 8"
[ "$a" -gt 0 ]
[ "$b" -gt 0 ]
[ $((a + b)) = 8 ]

# The first event is there long before the last one.
start=$(date +%s%N)
curl -sSN "$url/v1/completions" -d '{"prompt": "a", "max_tokens": 300, "ignore_eos": true, "stream": true}' |
    while read -r line; do case "$line" in data:*) echo "$(date +%s%N) $line" ;; esac; done >"$work/events"
first=$(($(head -1 "$work/events" | cut -d' ' -f1) - start)) last=$(($(tail -1 "$work/events" | cut -d' ' -f1) - start))
echo "streamed: first event after $((first / 1000000)) ms, last after $((last / 1000000)) ms"
tail -1 "$work/events" | grep -q '\[DONE\]'
[ $((first * 4)) -lt "$last" ]

# A WebSocket is let through.
code=$(curl -sS -o /dev/null -w '%{http_code}' --max-time 2 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
    -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' "$url/ws/stream" 2>/dev/null || true)
echo "websocket: $code"
[ "$code" = 101 ]

eval "kill -9 \$server1"
for i in 1 2 3 4 5 6; do [ "$(ask)" = 200 ] || { echo "request $i failed after one server died"; exit 1; }; done
echo "one server died: 6 of 6 answered"
