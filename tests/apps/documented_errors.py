#!/usr/bin/env python3
"""Every command of docs/TROUBLESHOOTING.md fails with the message that the page shows for it.

usage: documented_errors.py SMELT SOURCE_DIR. "..." in a message stands for anything.
"""
import os
import re
import subprocess
import sys
import tempfile


def main():
    smelt, source = (os.path.realpath(a) for a in sys.argv[1:3])
    with open(os.path.join(source, "docs", "TROUBLESHOOTING.md"), encoding="utf-8") as f:
        cases = re.findall(r"^\$ smelt (.*)\n(.*)$", f.read(), re.M)
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": home}
        environment.pop("SMELT_API_KEY", None)
        for command, message in cases:
            run = subprocess.run([smelt, *command.split()], cwd=source, env=environment, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
            pattern = ".*".join(re.escape(part) for part in message.split("..."))
            if run.returncode not in (1, 2) or not re.search(pattern, run.stderr):
                sys.exit(f"smelt {command}\nexpected: {message}\ngot ({run.returncode}): {run.stderr}")
    print(f"{len(cases)} messages are as documented")
    if len(cases) < 6:
        sys.exit("there should be more")


main()
