#!/bin/sh
# Completion in the shells themselves, as far as they are installed; manual pages through groff, if it is.
# usage: completion.sh SMELT
set -eu
smelt=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/here"
ln -s "$smelt" "$work/bin/smelt"
PATH="$work/bin:$PATH"
# A pulled model, and a file.
HF_HUB_CACHE="$work/hub"
export PATH HF_HUB_CACHE
mkdir -p "$work/hub/models--org--pulled/snapshots/0123456789012345678901234567890123456789"
touch "$work/hub/models--org--pulled/snapshots/0123456789012345678901234567890123456789/config.json" "$work/here/local.gguf"
cd "$work/here"

# expect WHERE FOUND WANTED...: each line that is wanted, and - before what must not be there
expect() {
    where=$1 found=$2
    shift 2
    for wanted; do
        case $wanted in
        -:*) ! printf '%s\n' "$found" | grep -qx -e "${wanted#-:}" || { echo "$where: ${wanted#-:} is in: $found"; exit 1; } ;;
        *) printf '%s\n' "$found" | grep -qx -e "$wanted" || { echo "$where: $wanted is not in: $found"; exit 1; } ;;
        esac
    done
}

if command -v bash >/dev/null; then
    smelt completion bash >smelt.bash
    complete_bash() {
        bash -c 'compopt() { :; }; source ./smelt.bash; COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _smelt; printf "%s\n" "${COMPREPLY[@]}"' bash "$@"
    }
    expect "bash: verb" "$(complete_bash smelt '')" run serve pull completion -:local.gguf
    expect "bash: ru" "$(complete_bash smelt ru)" run -:serve
    expect "bash: option" "$(complete_bash smelt run --t)" --temp --threads --top-k -:--port
    expect "bash: common option" "$(complete_bash smelt serve --)" --port --verbose --tls-cert
    expect "bash: alias" "$(complete_bash smelt chat --te)" --temp
    expect "bash: model" "$(complete_bash smelt run '')" local.gguf org/pulled
    expect "bash: -m" "$(complete_bash smelt serve -m '')" local.gguf org/pulled
    expect "bash: choice" "$(complete_bash smelt completion '')" bash zsh fish
    echo "bash: done"
fi

if command -v fish >/dev/null; then
    smelt completion fish >smelt.fish
    complete_fish() { HOME="$work" fish -c "source ./smelt.fish; complete -C '$1'" | cut -f1; }
    expect "fish: verb" "$(complete_fish 'smelt ')" run serve pull completion -:local.gguf
    expect "fish: option" "$(complete_fish 'smelt run --t')" --temp --threads --top-k -:--port
    expect "fish: model" "$(complete_fish 'smelt run ')" local.gguf org/pulled
    expect "fish: choice" "$(complete_fish 'smelt completion ')" bash zsh fish
    echo "fish: done"
fi

if command -v zsh >/dev/null; then
    smelt completion zsh >_smelt
    # A terminal of its own, in which TAB is pressed behind $1.
    complete_zsh() {
        ZDOTDIR="$work" zsh -f -c '
            zmodload zsh/zpty
            zpty shell zsh -f -i
            zpty -w shell "PROMPT=; unsetopt zle_bracketed_paste; fpath=($PWD \$fpath); autoload -Uz compinit; compinit -D -u; zstyle \":completion:*\" list-separator \"#\"; LISTMAX=10000; bindkey \"^I\" complete-word; setopt auto_list no_list_ambiguous no_always_last_prompt; print rea\"\"dy"
            while zpty -r shell line && [[ $line != ready* ]]; do :; done
            zpty -w -n shell "$1"$'"'\t'"'
            sleep 2
            zpty -w -n shell $'"'\C-u'"'"print d\"\"one"$'"'\n'"'
            while zpty -r shell line && [[ $line != *done* ]]; do print -r -- "$line"; done' zsh "$1" |
            sed 's/\x1b\[[0-9;?]*[a-zA-Z]//g; s/\r//g' | tr -s ' ' '\n'
    }
    expect "zsh: verb" "$(complete_zsh 'smelt ')" run serve pull completion
    expect "zsh: option" "$(complete_zsh 'smelt run --t')" --temp --threads --top-k -:--port
    expect "zsh: model" "$(complete_zsh 'smelt run ')" local.gguf org/pulled
    echo "zsh: done"
fi

if command -v groff >/dev/null; then
    smelt manual man1
    warnings=$(for page in man1/*.1; do groff -man -Tutf8 -ww -z "$page" 2>&1; done)
    [ -z "$warnings" ] || { echo "$warnings"; exit 1; }
    groff -man -Tutf8 man1/smelt-run.1 | sed 's/.\x08//g; s/\x1b\[[0-9;]*m//g' | grep -q -e '--temperature'
    echo "groff: done"
fi
