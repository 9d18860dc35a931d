#!/usr/bin/env python3
"""Fails where ./demo compiles a fifth more text than it did: the bytes that the compiler reads for the command smelt, headers included,
which do not depend on the machine's speed. usage: check_build_size.py BUILD_DIR [--print]
What is gone over on purpose goes into `known`, with the commit that did it. Exit 77 (skipped) where another compiler counts differently."""
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys

known = 218  # million bytes, g++ 12 and the libraries of Debian 12


def preprocessed(entry):
    words = shlex.split(entry["command"])
    if os.path.basename(words[0]) == "ccache":
        del words[0]
    at = words.index("-o")
    del words[at : at + 2]
    words[words.index("-c")] = "-E"
    source = os.path.join(entry["directory"], entry["file"])
    if not os.path.exists(source):
        return 0
    done = subprocess.run([*words, "-P", "-w"], cwd=entry["directory"], check=True, capture_output=True)
    return len(done.stdout)


def main():
    build = sys.argv[1]
    with open(os.path.join(build, "compile_commands.json")) as f:
        commands = json.load(f)
    # The rooms and the command, and not what is for tests alone.
    of_smelt = [e for e in commands if " -o src/CMakeFiles/smelt" in e["command"] and not re.search("metal|smelt_grpc", e["command"].split(" -o ")[1].split()[0])]
    words = shlex.split(of_smelt[0]["command"])
    compiler = next(word for word in words if not word.endswith("ccache"))
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
    joined = any("/joined/" in e["file"] for e in of_smelt)
    if "Debian 12" not in version or not joined or "-fsanitize" in of_smelt[0]["command"]:
        print(f"{version}, sources joined: {joined}; counted with Debian 12's g++ and joined sources: skipped")
        return 77
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        size = round(sum(pool.map(preprocessed, of_smelt)) / 1e6)
    print(f"{size} million bytes in {len(of_smelt)} sources; {known} are known, {known * 6 // 5} at most")
    return 0 if "--print" in sys.argv or known * 4 // 5 <= size <= known * 6 // 5 else 1


if __name__ == "__main__":
    sys.exit(main())
