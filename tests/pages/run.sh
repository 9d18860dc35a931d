#!/bin/sh
# Serves the bundled models and drives Chromium over /chat and /dashboard.
# usage: run.sh SMELT SOURCE_DIR WORK_DIR [SCREENSHOT_DIR]: with the last, makes the README's screenshots instead.
# Exit 77 (skipped) where there is no Node 20, npm cannot be reached, or there is no Chromium to be had.
set -eu
smelt=$1 source=$2 work=$3 screenshots=${4:-}
here=$(cd "$(dirname "$0")" && pwd)
[ -z "$screenshots" ] || screenshots=$(cd "$screenshots" && pwd)

if ! command -v node >/dev/null || ! command -v npm >/dev/null || [ "$(node -p 'process.versions.node.split(".")[0] >= 20')" != true ]; then
    echo "Node 20 is not installed: skipped"
    exit 77
fi
mkdir -p "$work"
cp "$here/package.json" "$here/package-lock.json" "$here"/*.mjs "$work/"
smelt=$(realpath "$smelt") source=$(realpath "$source")
cd "$work"
if ! cmp -s package-lock.json node_modules/.installed-lock; then
    if ! npm ping --fetch-retries=0 --fetch-timeout=10000 >/dev/null 2>&1; then
        echo "npm cannot be reached: skipped"
        exit 77
    fi
    npm ci --ignore-scripts --no-audit --no-fund
    cp package-lock.json node_modules/.installed-lock
fi

# The system's, or else the one that Playwright downloads.
chromium=${CHROMIUM:-}
for name in chromium chromium-browser google-chrome "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
    [ -n "$chromium" ] || chromium=$(command -v "$name" || true)
done
if [ -z "$chromium" ]; then
    export PLAYWRIGHT_BROWSERS_PATH="$work/browsers"
    if ! timeout 300 npx playwright-core install chromium-headless-shell >install.log 2>&1; then
        echo "no Chromium (Debian: apt-get install chromium), and Playwright could not download one: skipped"
        exit 77
    fi
fi
export CHROMIUM="$chromium"

mkfifo address.$$ locked.$$
trap 'rm -f address.$$ locked.$$; kill ${servers:-} 2>/dev/null || true' EXIT
cd "$source"
"$smelt" serve large=models/demo-23m small=models/demo-5m --port 0 -q >"$work/address.$$" &
servers=$!
"$smelt" serve models/demo-5m --port 0 --api-key secret-key -q >"$work/locked.$$" &
servers="$servers $!"
cd "$work"
read -r address <address.$$
read -r locked <locked.$$
if [ -n "$screenshots" ]; then
    node screenshots.mjs "$address" "$screenshots"
else
    node --test-reporter=spec pages.mjs "$address" "$locked"
fi
