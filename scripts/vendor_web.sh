#!/bin/sh
# Fetches what the pages take from others, at fixed versions, from the npm registry: Markdown's parser, formulae
# as MathML, colours of code. Writes src/server/pages/web/vendored/ anew. usage: vendor_web.sh
set -eu
cd "$(dirname "$0")/../src/server/pages/web/vendored"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
languages="bash c cpp csharp css diff dockerfile go ini java javascript json kotlin lua makefile php python ruby rust sql swift typescript xml yaml"

fetch() {
    mkdir -p "$work/$2"
    (cd "$work" && tar xzf "$(npm pack --silent "$1")" -C "$2" --strip-components 1)
}
fetch markdown-it@14.3.3 markdown-it
fetch temml@0.13.5 temml
fetch @highlightjs/cdn-assets@11.12.0 highlight

# Modules with one default export each. Maps and comments of builds stay behind.
{
    grep -v '^//# sourceMappingURL' "$work/markdown-it/dist/markdown-it.min.js"
    echo 'export default globalThis.markdownit;'
} >markdown-it.js
{
    echo '/*! Temml 0.13.5 https://temml.org, MIT licence */'
    cat "$work/temml/dist/temml.min.js"
    echo 'export default temml;'
} >temml.js
{
    sed 's/export{te as default};//' "$work/highlight/es/core.min.js"
    for language in $languages; do
        echo "te.registerLanguage('$language', (() => {"
        sed 's/;*export default hljsGrammar;/;/' "$work/highlight/es/languages/$language.min.js"
        echo 'return hljsGrammar; })());'
    done
    echo 'export default te;'
} >highlight.js
for package in markdown-it temml highlight; do
    echo "== $package"
    cat "$work/$package/LICENSE"
    echo
done >LICENSES.txt
wc -c ./*
