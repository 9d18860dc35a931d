#!/bin/sh
# Serves the bundled model and lets the clients of package-lock.json loose on it. usage: run.sh SMELT MODEL WORK_DIR
# Exit 77 (skipped) where there is no Node 20 or npm cannot be reached; anything else that fails is a failure.
set -eu
smelt=$1 model=$2 work=$3
here=$(cd "$(dirname "$0")" && pwd)

if ! command -v node >/dev/null || ! command -v npm >/dev/null || [ "$(node -p 'process.versions.node.split(".")[0] >= 20')" != true ]; then
    echo "Node 20 is not installed: skipped"
    exit 77
fi
mkdir -p "$work"
cp "$here/package.json" "$here/package-lock.json" "$here/clients.mjs" "$here/tools.mjs" "$here/dialects.mjs" "$here/structured.mjs" "$work/"
cd "$work"
if ! cmp -s package-lock.json node_modules/.installed-lock; then
    if ! npm ping --fetch-retries=0 --fetch-timeout=10000 >/dev/null 2>&1; then
        echo "npm cannot be reached: skipped"
        exit 77
    fi
    npm ci --ignore-scripts --no-audit --no-fund
    cp package-lock.json node_modules/.installed-lock
fi

mkfifo address.$$
trap 'rm -f address.$$; [ -z "${server:-}" ] || kill "$server" 2>/dev/null || true' EXIT
"$smelt" serve "$model" --port 0 -q >address.$$ &
server=$!
read -r address <address.$$
for file in clients tools dialects structured; do node "$file.mjs" "$address"; done
