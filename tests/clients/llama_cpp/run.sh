#!/bin/sh
# Runs the tests of llama.cpp's server against smelt: they start it themselves, in llama-server's place, with its flags.
# usage: run.sh LLAMA_CPP_DIR SMELT SOURCE_DIR WORK_DIR [PYTEST_ARGUMENT...]
# Needs a checkout of llama.cpp (tools/server/tests, models/templates) and pytest, requests, wget, numpy (Debian's packages python3-...).
# What is left out, and why, is listed in suite.py. Exit 0: all others passed.
set -eu
[ $# -ge 4 ] || { sed -n '2,6p' "$0" >&2; exit 2; }
llama=$(cd "$1" && pwd) smelt=$(realpath "$2") source=$(cd "$3" && pwd)
mkdir -p "$4"
work=$(cd "$4" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
shift 4

# The suite's own model ends no answer by itself, does not think and has marks for gaps; so does this one.
rm -rf "$work/model"
cp -r "$source/models/demo-23m" "$work/model"
python3 "$here/model.py" "$work/model"
"$smelt" convert "$work/model" "$work/model.gguf" --force -q

cd "$llama/tools/server/tests"
[ $# -gt 0 ] || set -- unit/test_basic.py unit/test_chat_completion.py unit/test_compat_anthropic.py unit/test_compat_gcp.py \
    unit/test_compat_oai_responses.py unit/test_completion.py unit/test_ctx_shift.py unit/test_embedding.py unit/test_ignore_eos.py \
    unit/test_infill.py unit/test_rerank.py unit/test_security.py unit/test_template.py unit/test_tokenize.py unit/test_tool_call.py
export SMELT="$smelt" SMELT_MODEL="$work/model.gguf" PYTHONPATH="$here" LLAMA_SERVER_BIN_PATH="$here/llama_server.py"
for python in python3 /usr/bin/python3; do
    "$python" -c 'import numpy, pytest, requests, wget' 2>/dev/null && break
done
exec "$python" -m pytest -p no:cacheprovider -p suite -q -m "not slow" --tb=line -rs "$@"
