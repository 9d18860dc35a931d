#!/bin/sh
# Serves the bundled model and lets the clients of package-lock.json loose on it. usage: run.sh SMELT MODEL WORK_DIR
# Exit 77 (skipped) where there is no Node 20 or npm cannot be reached; anything else that fails is a failure.
set -eu
smelt=$1 model=$2 work=$3
here=$(cd "$(dirname "$0")" && pwd)

. "$here/npm.sh"
npm_folder "$here" "$work"

mkfifo address.$$
trap 'rm -f address.$$; [ -z "${server:-}" ] || kill "$server" 2>/dev/null || true' EXIT
"$smelt" serve "$model" --port 0 -q >address.$$ &
server=$!
read -r address <address.$$
for file in clients tools dialects structured; do node "$file.mjs" "$address"; done
