#!/bin/sh
# Builds smelt.pdf from smelt.tex and the files in bench/results/. usage: docs/paper/build.sh
# Debian: apt-get install texlive-latex-recommended texlive-latex-extra texlive-pictures texlive-fonts-recommended lmodern
set -eu
cd "$(dirname "$0")"
command -v pdflatex >/dev/null || { echo "pdflatex is not installed"; exit 1; }
./make_numbers.py
# The same bytes, whenever it is built.
export SOURCE_DATE_EPOCH=1764547200 FORCE_SOURCE_DATE=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for pass in 1 2 3; do
    pdflatex -interaction=nonstopmode -halt-on-error -output-directory "$work" smelt.tex >"$work/out" || { tail -30 "$work/out"; exit 1; }
done
grep -E 'Overfull|undefined' "$work/smelt.log" || true
cp "$work/smelt.pdf" smelt.pdf
