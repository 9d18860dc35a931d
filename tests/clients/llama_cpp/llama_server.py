#!/usr/bin/env python3
"""Stands in llama-server's place: starts smelt with its own model and the rest of the flags. Flags that smelt does not have are
left out, so that the cases about them fail or are listed in suite.py."""
import os
import sys

OTHER_MODEL = {"--hf-repo", "--hf-file", "--model-url", "--model", "--mmproj-url", "--model-draft", "--lora"}
NOT_THERE = {"--tags": 1, "--slot-save-path": 1, "--sleep-idle-seconds": 1, "--kv-unified": 0, "--no-ui": 0, "--reranking": 0,
             "--no-jinja": 0, "--context-shift": 0, "--no-cache-idle-slots": 0, "--backend_sampling": 0, "--offline": 0}

given, flags = sys.argv[1:], []
parallel, context, thinking = 1, 0, '{"enable_thinking": false}'
unified = "--kv-unified" in given
while given:
    flag = given.pop(0)
    if flag in OTHER_MODEL:
        given.pop(0)
    elif flag in NOT_THERE:
        del given[: NOT_THERE[flag]]
    elif flag == "--ctx-size":
        context = int(given.pop(0))
    elif flag == "--reasoning":
        if given.pop(0) != "off":  # on, auto
            thinking = '{"enable_thinking": true}'
    else:
        if flag == "--parallel":
            parallel = int(given[0])
        flags.append(flag)
if context:  # llama-server's is for all slots together
    flags += ["--ctx", str(context if unified else context // parallel), "--kv-tokens", str(context)]
command = [os.environ["SMELT"], "serve", os.environ["SMELT_MODEL"], "--any-model-name", "--chat-template-kwargs", thinking,
           "--top-p", "0.95", "--top-k", "40"]
os.execv(command[0], command + flags)
