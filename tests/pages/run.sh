#!/bin/sh
# Serves the bundled models and drives Chromium over /chat and /dashboard.
# usage: run.sh SMELT SOURCE_DIR WORK_DIR [SCREENSHOT_DIR]: with the last, makes the README's screenshots instead.
# Exit 77 (skipped) where there is no Node 20, npm cannot be reached, or there is no Chromium to be had.
set -eu
smelt=$1 source=$2 work=$3 screenshots=${4:-}
here=$(cd "$(dirname "$0")" && pwd)
[ -z "$screenshots" ] || screenshots=$(cd "$screenshots" && pwd)

. "$here/../clients/npm.sh"
smelt=$(realpath "$smelt") source=$(realpath "$source")
npm_folder "$here" "$work"
work=$PWD

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
    missing=$(find "$work/browsers" -type f -name '*headless*shell' -exec ldd {} + 2>/dev/null | grep 'not found' || true)
    if [ -n "$missing" ]; then
        echo "no Chromium (Debian: apt-get install chromium), and the one of Playwright needs $missing: skipped"
        exit 77
    fi
fi
export CHROMIUM="$chromium"

mkfifo address.$$ locked.$$
trap 'rm -f address.$$ locked.$$; kill ${servers:-} 2>/dev/null || true' EXIT
cd "$source"
"$smelt" serve large=models/demo-23m small=models/demo-5m sees=models/demo-vl --port 0 -q >"$work/address.$$" &
servers=$!
"$smelt" serve models/demo-5m --port 0 --api-key secret-key -q >"$work/locked.$$" &
servers="$servers $!"
export SCENE="$source/models/demo-vl/scene.png"
cd "$work"
read -r address <address.$$
read -r locked <locked.$$
if [ -n "$screenshots" ]; then
    node screenshots.mjs "$address" "$screenshots"
else
    node --test-reporter=spec ${ONLY:+--test-name-pattern="$ONLY"} pages.mjs "$address" "$locked"
fi
