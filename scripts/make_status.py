#!/usr/bin/env python3
"""Writes docs/STATUS.md, families and number formats by device, from what the golden models and the conformance suite printed.

usage: make_status.py [-o docs/STATUS.md] [--commit HASH] FOLDER...   a build after ./check (its Testing/Temporary/LastTest.log), or logs named TEST.log
       make_status.py --check                         the page has a row for each golden model and number format, and none failed
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "STATUS.md"
DEVICES = {"reference": "scalar reference", "cpu": "CPU", "metal": "Metal, software device", "cuda": "CUDA, software GPU"}
# Which devices a test of the conformance suite covers; its cases do not say.
COVERS = {"ops_test": ["cpu", "metal"], "ops_test_cuda": ["cuda"], "ops_test_cuda_hopper": ["cuda"]}


def folders(name):
    return sorted(p.name for p in (ROOT / "tests" / "data" / name).iterdir() if p.is_dir())


def formats():
    text = (ROOT / "src" / "quant" / "format_list.h").read_text(encoding="utf-8")
    return re.findall(r'X\(\w+, -?\d+, "(\w+)"', text)


def model_type(folder):
    return json.loads((ROOT / "tests" / "data" / folder / "config.json").read_text(encoding="utf-8"))["model_type"]


def logs_of(folder):
    """A folder's logs, each with the test that it is of; none where the log says it."""
    whole = folder / "Testing" / "Temporary" / "LastTest.log"
    return [(whole, None)] if whole.exists() else [(p, p.stem) for p in sorted(folder.glob("*.log"))]


def read(log, test):
    """Of each test of ctest, the outcome of each of its cases."""
    outcomes = {test: {}}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        begin = re.match(r"\d+/\d+ Testing: (\S+)", line)
        case = re.match(r"\[ +(OK|FAILED|SKIPPED) +\] ([\w./]+)(?:,| \()", line)
        if begin:
            test = begin[1]
            outcomes.setdefault(test, {})
        elif case and test:
            outcomes[test][case[2]] = {"OK": "passed", "FAILED": "failed", "SKIPPED": "skipped"}[case[1]]
    return outcomes


def cell(states):
    """What a cell of the matrix says of the cases behind it."""
    passed, failed = states.count("passed"), states.count("failed")
    if failed:
        return f"**{failed} of {passed + failed} failed**"
    return f"yes ({passed})" if passed else "–"


def table(rows, devices, first):
    lines = [f"| {first} | " + " | ".join(DEVICES[d] for d in devices) + " |", "|---|" + "---|" * len(devices)]
    return lines + [f"| {name} | " + " | ".join(cell(states.get(d, [])) for d in devices) + " |" for name, states in rows]


def machine():
    info = pathlib.Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text(encoding="utf-8")) if info.exists() else None
    return f"{os.cpu_count()} cores, {model[1] if model else platform.processor()}, {platform.system()}"


def make(logs, commit):
    golden, seen, weights, caches, groups = {}, {}, {}, {}, {}
    names = {re.sub(r"[-.]", "_", n): n for n in folders("goldens") + folders("vision_goldens")}
    for log, of in logs:
        for test, cases in read(log, of).items():
            for case, state in cases.items():
                suite, _, rest = case.partition(".")
                parameter = rest.partition("/")[2]
                model, _, device = parameter.rpartition("_")
                if suite in ("All/Golden", "All/VisionGolden", "All/VisionGguf") and model in names:
                    where = golden if suite == "All/Golden" else seen
                    where.setdefault(names[model], {}).setdefault(device, []).append(state)
                for device in COVERS.get(test, []):
                    if suite.endswith("/EveryKvFormat"):
                        where, row = caches, f"`{parameter}`"
                    elif parameter in formats():
                        where, row = weights, parameter
                    else:
                        where, row = groups, suite.rpartition("/")[2]
                    where.setdefault(row, {}).setdefault(device, []).append(state)
    if not golden or not weights:
        sys.exit("the logs have no golden_test and no ops_test: run ./check first")
    commit = commit or subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    devices = [d for d in DEVICES if any(d in row for row in golden.values())]
    others = [d for d in DEVICES if d != "reference"]
    return "\n".join([
        "# Status", "",
        "Made by `scripts/make_status.py` from the log of `./check`, not by hand. In brackets: how many cases passed. –: no case.", "",
        "```",
        "./check -R 'golden_test|ops_test' && scripts/make_status.py build",
        f"# {datetime.date.today()}, commit {commit}; {machine()}",
        "```", "",
        "Metal and CUDA are the tests' software devices here: the backends' own host code and kernels, on the processor. What ran on hardware is in",
        "`docs/CUDA.md` (one NVIDIA H200, which the golden models ran on) and in `docs/METAL.md` (no Mac yet).", "",
        "## Families", "",
        "Tiny random models against the logits and greedy answers of the reference implementation: the prompt whole, in chunks and token by token; the",
        "greedy continuation; three sequences in one batch, which get the bits that each gets alone; after `convert` to GGUF and back.", "",
        *table([(f"{g} (`{model_type('goldens/' + g)}`)", golden.get(g, {})) for g in folders("goldens")], devices, "golden model"), "",
        "Models that see: pixels, features, positions, logits with pictures, and the tower as GGUF.", "",
        *table([(f"{g} (`{model_type('vision_goldens/' + g)}`)", seen.get(g, {})) for g in folders("vision_goldens")], devices, "golden model"), "",
        "## Number formats of weights", "",
        "Products of one token and many, with remainders of blocks and tiles, biases, look-ups, experts: within the bound that rounding sets of the scalar",
        "reference, and with the same bits alone and in a batch. The CPU is every instruction set that the machine has. A case covers the CPU and Metal",
        "together, so both columns have the same number.", "",
        *table([(f"`{f}`", weights.get(f, {})) for f in formats()], others, "format"), "",
        "## Number formats of the KV cache", "",
        *table(sorted(caches.items()), others, "format"), "",
        "## The other cases of the conformance suite", "",
        *table(sorted(groups.items()), others, "group"), "",
    ])


def check():
    page = PAGE.read_text(encoding="utf-8")
    wanted = [f"| {g} (`" for g in folders("goldens") + folders("vision_goldens")] + [f"| `{f}` |" for f in formats()]
    missing = [w for w in wanted if w not in page]
    if missing or "failed**" in page:
        sys.exit(f"docs/STATUS.md: no rows {missing}; a failure in it: {'failed**' in page}; scripts/make_status.py BUILD writes it anew")
    print(f"{len(wanted)} rows are there")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="*", type=pathlib.Path)
    parser.add_argument("-o", "--output", type=pathlib.Path, default=PAGE)
    parser.add_argument("--commit", help="what the logs are of; default: HEAD")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.check:
        check()
        return
    if not arguments.folder:
        parser.error("a folder is needed")
    arguments.output.write_text(make([log for folder in arguments.folder for log in logs_of(folder)], arguments.commit), encoding="utf-8")


main()
