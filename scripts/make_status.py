#!/usr/bin/env python3
"""Runs the golden models and the conformance suite on every device of a build, and writes their results as docs/STATUS.md.

usage: make_status.py BUILD [-o docs/STATUS.md] [--results DIR] [--only DEVICE,...]
       make_status.py --check: the page has a row for each golden model and number format, and none failed

--results keeps each program's results as JSON; what is there is not run again. It takes some minutes.
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
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "STATUS.md"
# A device of the page: what the tests call it, and what the loader must find.
DEVICES = {
    "reference": ("reference", "scalar reference"),
    "cpu": ("cpu", "CPU"),
    "metal": ("metal", "Metal, software device"),
    "cuda": ("cuda", "CUDA, software GPU"),
}
GOLDEN = ["LogitsAgreeHoweverThePromptIsFed", "GreedyContinuationIsTheSame", "LogitsAgreeWithOtherSequencesInTheBatch", "LogitsAgreeAfterConversion"]


def folders(name):
    return sorted(p.name for p in (ROOT / "tests" / "data" / name).iterdir() if p.is_dir())


def formats():
    text = (ROOT / "src" / "quant" / "format_list.h").read_text(encoding="utf-8")
    return re.findall(r'X\(\w+, -?\d+, "(\w+)"', text)


def gtest_name(name):
    return re.sub(r"[-.]", "_", name)


def run(build, program, device, keep, pattern="*"):
    """Every test's outcome, as {name: passed, failed or skipped}."""
    path = pathlib.Path(keep) / f"{program}-{device}.json"
    if not path.exists():
        environment = dict(os.environ)
        if device == "cuda":
            environment["LD_LIBRARY_PATH"] = str(build / "cuda" / "soft")
        if program == "ops_test":
            environment["SMELT_TEST_DEVICE"] = device
        part = path.with_suffix(".part")
        print(f"{program} on {device}", file=sys.stderr)
        done = subprocess.run([build / "tests" / program, f"--gtest_filter={pattern}", f"--gtest_output=json:{part}"],
                              env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if not part.exists():
            sys.exit(f"{program} on {device}: it ended with {done.returncode} and no results")
        part.rename(path)
    outcome = {}
    for suite in json.loads(path.read_text(encoding="utf-8"))["testsuites"]:
        for test in suite["testsuite"]:
            state = "failed" if test.get("failures") else "skipped" if test["result"] == "SKIPPED" else "passed"
            outcome[f"{suite['name']}.{test['name']}"] = state
    return outcome


def cell(states):
    """What a cell of the matrix says of the tests behind it."""
    states = list(states)
    passed, failed = states.count("passed"), states.count("failed")
    if failed:
        return f"**{failed} of {passed + failed} failed**"
    return f"yes ({passed})" if passed else "–"


def table(rows, devices, first):
    lines = [f"| {first} | " + " | ".join(DEVICES[d][1] for d in devices) + " |", "|---|" + "---|" * len(devices)]
    return lines + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows]


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8") if os.path.exists("/proc/cpuinfo") else ""
    model = re.search(r"model name\s*: (.*)", text)
    return f"{os.cpu_count()} cores of an {model[1] if model else platform.processor()}, {platform.system()}"


def about(name):
    config = json.loads((ROOT / "tests" / "data" / name / "config.json").read_text(encoding="utf-8"))
    return config["model_type"]


def make(build, devices, keep):
    goldens, golden_cells = folders("goldens"), {}
    seen, op_rows, format_cells, kv_cells = {}, {}, {}, {}
    for device in devices:
        name = DEVICES[device][0]
        outcome = run(build, "golden_test", device, keep, f"*/*_{name}")
        outcome.update(run(build, "vision_golden_test", device, keep, f"*/*_{name}"))
        for golden in goldens:
            golden_cells[golden, device] = cell(outcome.get(f"All/Golden.{t}/{gtest_name(golden)}_{name}", "skipped") for t in GOLDEN)
        for see in folders("vision_goldens"):
            tests = [s for t, s in outcome.items() if t.endswith(f"/{gtest_name(see)}_{name}")]
            seen[see, device] = cell(tests)
        if device == "reference":
            continue
        for test, state in run(build, "ops_test", device, keep).items():
            each = re.fullmatch(r"Conformance/(Every\w+)\.\w+/(\w+)", test)
            if each and each[1] == "EveryKvFormat":
                kv_cells.setdefault((each[2], device), []).append(state)
            elif each:
                format_cells.setdefault((each[2], device), []).append(state)
            else:
                op_rows.setdefault(test.split("/")[-2].split(".")[0] if "/" in test else test.split(".")[0], {}).setdefault(device, []).append(state)

    others = [d for d in devices if d != "reference"]
    kv = sorted({f for f, _ in kv_cells})
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    lines = [
        "# Status", "",
        "Made by `scripts/make_status.py` from test results, never by hand. A number in brackets counts the tests that passed; – means that there is no",
        "test of it.", "",
        "```", f"scripts/make_status.py build -o docs/STATUS.md      # {datetime.date.today()}, {machine()}, commit {commit}", "```", "",
        "Metal and CUDA are here the software devices of the tests: the backends' own host code and kernels, run by the processor. What ran on hardware",
        "is in `docs/CUDA.md` (one NVIDIA H200) and `docs/METAL.md` (no Mac yet).", "",
        "## Families", "",
        "Random models of a few hundred kilobytes against the logits and the greedy answers of the reference implementation (Transformers, in float32):",
        "the prompt whole, in pieces and token by token; its greedy continuation; three sequences in one batch, which get the same bits as each alone; and",
        "after `convert` to GGUF and back to a Hugging Face folder.", "",
        *table([(f"{g} (`{about('goldens/' + g)}`)", [golden_cells[g, d] for d in devices]) for g in goldens], devices, "golden model"), "",
        "Models that see, with pictures: pixels, features, positions, logits, the tower as GGUF.", "",
        *table([(f"{s} (`{about('vision_goldens/' + s)}`)", [seen[s, d] for d in devices]) for s in folders("vision_goldens")], devices, "golden model"), "",
        "## Number formats of weights", "",
        "Products of one and many tokens, shapes with remainders, biases, embeddings, experts, fused steps: within the bound that rounding allows of the",
        "scalar reference, and with the same bits alone and in a batch. The CPU's column has every instruction set of this machine.", "",
        *table([(f"`{f}`", [cell(format_cells.get((f, d), [])) for d in others]) for f in formats()], others, "format"), "",
        "## Number formats of the KV cache", "",
        *table([(f"`{f}`", [cell(kv_cells.get((f, d), [])) for d in others]) for f in kv], others, "format"), "",
        "## Ops", "",
        "The other tests of the conformance suite, by group.", "",
        *table([(o, [cell(op_rows[o].get(d, [])) for d in others]) for o in sorted(op_rows)], others, "group"), "",
    ]
    return "\n".join(lines)


def check():
    page = PAGE.read_text(encoding="utf-8")
    wanted = [f"| {g} (`" for g in folders("goldens") + folders("vision_goldens")] + [f"| `{f}` |" for f in formats()]
    missing = [w for w in wanted if w not in page]
    if missing or "failed**" in page:
        sys.exit(f"docs/STATUS.md: no rows {missing}; failed: {'failed**' in page}; scripts/make_status.py BUILD makes it anew")
    print(f"{len(wanted)} rows are there")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", type=pathlib.Path)
    parser.add_argument("-o", "--output", type=pathlib.Path, default=PAGE)
    parser.add_argument("--results", type=pathlib.Path)
    parser.add_argument("--only", default=",".join(DEVICES), help="devices, of " + ", ".join(DEVICES))
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.check:
        check()
        return
    if not arguments.build:
        parser.error("a build folder is needed")
    build = arguments.build.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        keep = arguments.results or pathlib.Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(make(build, arguments.only.split(","), keep), encoding="utf-8")


main()
