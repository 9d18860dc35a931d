#!/bin/bash
# Every example of `smelt help VERB` and every smelt line of README.md, as pasted; each must end with 0. Left out: what needs the hub, a
# server, another shell, or minutes.
# usage: documented_examples.sh SMELT SOURCE_DIR
set -eu
smelt=$(realpath "$1") source=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/build" "$work/docs"
ln -s "$smelt" "$work/bin/smelt"
ln -s "$smelt" "$work/build/smelt"
ln -s "$source/models" "$work/models"
cd "$work"
export PATH="$work/bin:$PATH" HF_HUB_OFFLINE=1 HF_HOME="$work/hub" XDG_STATE_HOME="$work/state"

# What the examples name.
smelt convert models/demo-5m model.gguf -q >/dev/null
printf '"What is 1 + 1?"\n{"prompt": "What is 2 + 2?", "max_tokens": 4}\n' >questions.jsonl
printf '{{ messages[0].content }}' >chat.jinja
printf '{"messages": [{"role": "user", "content": "Hi"}]}' >case.json
head -c 20000 "$source/docs/ARCHITECTURE.md" >text.txt
head -c 20000 "$source/README.md" >heldout.txt
smelt quantize models/demo-5m demo-q4_k_m.gguf --format q4_k_m --no-eval -q >/dev/null
cp "$source/tests/report/suite.json" result.json
ln -s "$source/bench" bench
git init -q . && echo one >file && git add file && git -c user.name=a -c user.email=a@b commit -qm one && echo two >file

# A line that ends in | or \\ goes on in the next.
join_lines() {
    awk '{ $0 = held $0; held = "" } /[|\\]$/ { sub(/[\\]$/, ""); held = $0 " "; next } { print }'
}

left_out='Qwen/|--shape|--suite|--compare|check-api|--report|--serve|smelt serve|doctor --check|smelt stop|smelt ps|~/|source <|SMELT_ADMIN_KEY|manual man1|--auto|--calibration'
verbs=$(smelt help | grep -E '^  [a-z]' | sed 's/^  //; s/[ ,].*//')
{
    for verb in $verbs; do
        smelt help "$verb" | sed -n '/xample/,$p' | join_lines | grep -E '^ +([a-z]+ .*\| )?smelt [a-z]' || true
    done
    grep -E '^(\$ )?(build/)?smelt [a-z]|^git diff' "$source/README.md" | sed 's/^\$ //'
} | sed -E 's/     .*//; /smelt bench .*--speculate/s/$/ --runs 1/' | grep -vE "$left_out" >commands
n=0
while read -r command; do
    if ! timeout 120 bash -c "$command" >out 2>err <<<"What is 12 + 30?"; then
        echo "failed: $command"
        cat out err
        exit 1
    fi
    n=$((n + 1))
done <commands
echo "$n examples ran"
[ "$n" -ge 20 ]
