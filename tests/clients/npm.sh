# Sourced by the tests that run on Node: puts what stands in the lock file of HERE, and HERE's own modules, into WORK
# and goes there. Ends the test as skipped (77) where there is no Node 20 or npm cannot be reached.
# usage: . npm.sh; npm_folder HERE WORK
npm_folder() {
    if ! command -v node >/dev/null || ! command -v npm >/dev/null || [ "$(node -p 'process.versions.node.split(".")[0] >= 20')" != true ]; then
        echo "Node 20 is not installed: skipped"
        exit 77
    fi
    mkdir -p "$2"
    cp "$1/package.json" "$1/package-lock.json" "$1"/*.mjs "$2/"
    cd "$2"
    cmp -s package-lock.json node_modules/.installed-lock && return
    if ! npm ping --fetch-retries=0 --fetch-timeout=10000 >/dev/null 2>&1; then
        echo "npm cannot be reached: skipped"
        exit 77
    fi
    npm ci --ignore-scripts --no-audit --no-fund
    cp package-lock.json node_modules/.installed-lock
}
