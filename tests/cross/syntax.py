#!/usr/bin/env python3
"""Compiles, syntax only, every source of a build folder's compile_commands.json. What compiled once is not compiled again
while command and content of all files that it read are the same. usage: syntax.py BUILD_DIR [--jobs N] [PART_OF_A_PATH...]"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import shlex
import subprocess
import sys

digests = {}


def digest(path):
    if path not in digests:
        try:
            with open(path, "rb") as f:
                digests[path] = hashlib.sha256(f.read()).hexdigest()
        except OSError:
            digests[path] = ""
    return digests[path]


def jobs(folder, parts):
    with open(os.path.join(folder, "compile_commands.json")) as f:
        commands = json.load(f)
    for entry in commands:
        words = shlex.split(entry["command"])
        while "=" not in words[0] and os.path.basename(words[0]) == "ccache":
            words = words[1:]
        at = words.index("-o")
        del words[at : at + 2]
        words.remove("-c")
        if not parts or any(part in entry["file"] for part in parts):
            yield entry["file"], entry["directory"], words


def compile(job, cache):
    file, directory, words = job
    key = hashlib.sha256("\0".join(words).encode()).hexdigest()
    record = os.path.join(cache, key)
    try:
        with open(record) as f:
            if all(digest(path) == known for path, known in json.load(f)):
                return file, True, ""
    except OSError:
        pass
    depends = record + ".d"
    done = subprocess.run([*words, "-fsyntax-only", "-MD", "-MF", depends], cwd=directory, capture_output=True, text=True)
    if done.returncode != 0:
        return file, False, done.stderr
    with open(depends) as f:
        paths = f.read().replace("\\\n", " ").replace("\\ ", "\0").split()[1:]
    os.remove(depends)
    paths = [os.path.join(directory, path.replace("\0", " ")) for path in paths]
    with open(record, "w") as f:
        json.dump([(path, digest(path)) for path in paths], f)
    return file, True, ""


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder")
    arguments.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    arguments.add_argument("parts", nargs="*")
    options = arguments.parse_args()
    options.folder = os.path.abspath(options.folder)
    cache = os.path.join(options.folder, "syntax")
    os.makedirs(cache, exist_ok=True)
    todo = list(jobs(options.folder, options.parts))
    generated = [os.path.relpath(file, options.folder) for file, _, _ in todo if not os.path.exists(file)]
    if generated:
        subprocess.run(["ninja", "-C", options.folder, *generated], check=True, stdout=subprocess.DEVNULL)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for file, ok, text in pool.map(lambda job: compile(job, cache), todo):
            if not ok:
                failed += 1
                print(f"{file} does not compile:\n{text}", flush=True)
    print(f"{len(todo)} sources, {failed} do not compile")
    return 1 if failed or not todo else 0


if __name__ == "__main__":
    sys.exit(main())
