#!/bin/sh
# Answers of the bundled model against OpenAI's published document. usage: openai_schema.sh SMELT MODEL SCHEMAS
# Exit 77 (skipped) where python3 or python3-jsonschema is not installed.
set -eu
smelt=$1 model=$2 schemas=$3
here=$(cd "$(dirname "$0")" && pwd)
command -v python3 >/dev/null || { echo "python3 is not installed: skipped"; exit 77; }
work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
mkfifo "$work/address"
"$smelt" serve "$model" --port 0 -q >"$work/address" &
server=$!
read -r address <"$work/address"
python3 "$here/openai_schema.py" "$schemas" "$address"
