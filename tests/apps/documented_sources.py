#!/usr/bin/env python3
"""What docs/SOURCES.md tells people to use is there: endpoints in a running server, verbs and options in docs/FLAGS.md (a test
compares that with the command), files in the repository. Its commands are run by guides.sh.

usage: documented_sources.py SMELT SOURCE_DIR
"""
import json
import pathlib
import re
import subprocess
import sys
import urllib.request

smelt, source = sys.argv[1], pathlib.Path(sys.argv[2])


def here(page):
    """The code in the right column of the tables that have "there" and "here"."""
    on = False
    for line in page.splitlines():
        cells = re.split(r"(?<!\\)\|", line)
        if line.startswith("| there | here"):
            on = True
        elif on and len(cells) == 4:
            yield from re.findall(r"`([^`]+)`", cells[2])
        elif not line.startswith("|"):
            on = False


def paths():
    """What the server has, with examples for the names in paths."""
    server = subprocess.Popen([smelt, "serve", "models/demo-5m", "--port", "0", "-q"], cwd=source, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().strip()
        with urllib.request.urlopen(address + "/openapi.json", timeout=60) as answer:
            return json.load(answer)["paths"]
    finally:
        server.kill()
        server.wait()


def options():
    """Each verb's options; those of every verb are under ''."""
    found, verbs = {"": set()}, [""]
    for line in (source / "docs" / "FLAGS.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            verbs = re.findall(r"smelt ([a-z-]+)", line) or [""]
        elif line.startswith("| `"):
            for verb in verbs:
                found.setdefault(verb, set()).update(re.findall(r"`(-[^`]+)`", line.split(" | ")[0]))
    return found


def main():
    flags, routes = options(), paths()
    anywhere = set().union(*flags.values())
    page = (source / "docs" / "SOURCES.md").read_text(encoding="utf-8")
    n = {"endpoint": 0, "command": 0, "option": 0, "file": 0}
    missing = []
    for code in here(page):
        words = code.split()
        endpoint = re.fullmatch(r"(GET|POST) (/\S*)", code)
        if endpoint:
            kind, found = "endpoint", endpoint[1].lower() in routes.get(endpoint[2], {})
        elif words[0] == "smelt" and len(words) > 1:
            verb = words[1]
            known = flags.get(verb, set()) | flags[""]
            kind, found = "command", verb in flags and all(w in known for w in words[2:] if w.startswith("-"))
            found = found or verb == "help"
        elif words[0].startswith("-") and not words[0].startswith("-D"):
            kind, found = "option", words[0] in anywhere
        elif re.fullmatch(r"(\./)?[\w./-]+", code) and re.match(r"\./(demo|check)$|(docs|scripts|examples|packaging|bench|src)/|\w+\.md$", code):
            kind, found = "file", (source / code).exists()
        else:
            continue
        n[kind] += 1
        if not found:
            missing.append(f"{kind}: {code}")
    print(n)
    if missing:
        sys.exit("docs/SOURCES.md names what is not there:\n" + "\n".join(missing))
    if min(n.values()) < 10:
        sys.exit("there should be more")


main()
