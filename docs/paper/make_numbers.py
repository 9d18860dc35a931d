#!/usr/bin/env python3
"""Writes numbers.tex, the macros that smelt.tex takes its numbers from, out of bench/results/ and counts of this repository.

usage: make_numbers.py [-o docs/paper/numbers.tex | --check]     --check: the committed file is what the results give
"""
import csv
import json
import pathlib
import re
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = ROOT / "bench" / "results"
macros = {}


def put(name, value):
    assert name.isalpha() and name not in macros, name
    macros[name] = value


def number(value, digits=0):
    return f"{value:,.{digits}f}".replace(",", "\\,")


def peers():
    """The speed of smelt divided by that of llama.cpp, for each round."""
    rounds = {}
    with open(RESULTS / "cpu_epyc_2_cores.csv", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            work = "prefill" if row["prompt"] != "0" else "decode"
            key = (re.search(r"n-(\w+)\.gguf", row["file"])[1], work)
            rounds.setdefault(key, {}).setdefault(row["round"], {})[row["program"]] = float(row["tokens_per_s"])
    lines = []
    for (name, work), each in rounds.items():
        ratios = sorted(r["smelt"] / r["llama.cpp"] for r in each.values())
        ours, theirs = (statistics.median(r[p] for r in each.values()) for p in ("smelt", "llama.cpp"))
        shown = name.upper().replace("_", "\\_")
        lines.append(f"{shown} & {work} & {ours:.1f} & {theirs:.1f} & {statistics.median(ratios):.2f} ({ratios[0]:.2f}--{ratios[-1]:.2f}) \\\\")
        short = {"q8_0": "Qeight", "q4_0": "Qfour", "q4_k": "Qfourk"}[name]
        put(f"peer{short}{work}", f"{statistics.median(ratios):.2f}")
    put("peerTable", "\n".join(lines))
    put("peerRounds", str(max(len(r) for r in rounds.values())))


def sizes():
    """demo-23m at five sizes."""
    lines, points = [], []
    for line in (RESULTS / "quantized_demo_23m.txt").read_text(encoding="utf-8").splitlines():
        if "{" not in line:
            continue
        limit, row = line.split(" ", 1)
        row = json.loads(row)
        lines.append(f"{number(int(limit))} & {number(row['bytes'])} & {row['kl_mean']:.4f} $\\pm$ {row['kl_error']:.4f} & {100 * row['top1']:.1f} & {row['perplexity']:.2f} \\\\")
        points.append(f"({row['bytes'] / 1e6:.3f},{row['kl_mean']:.5f})")
        put("quantReference", f"{row['reference_perplexity']:.2f}") if "quantReference" not in macros else None
        macros["quantTokens"] = number(row["tokens"])
    put("quantTable", "\n".join(lines))
    put("quantPoints", " ".join(points))


def cuda():
    """The versions of the backend on one H200."""
    text = (RESULTS / "cuda_on_h200.txt").read_text(encoding="utf-8")
    versions = re.split(r"\n(?=(?:First|Second|Third|Fourth|Fifth) version)", text)[1:]
    first = []
    for i, version in enumerate(versions):
        found = re.search(r"^qwen3-4b +q8_0 +([\d.]+)(?: \([^)]*\))? +([\d.]+)", version, re.M)
        first.append((float(found[1]), float(found[2])))
    put("cudaDecodeByVersion", " ".join(f"({i + 1},{d})" for i, (_, d) in enumerate(first)))
    put("cudaPrefillByVersion", " ".join(f"({i + 1},{p})" for i, (p, _) in enumerate(first)))
    put("cudaFirstDecode", number(first[0][1]))
    put("cudaLastDecode", number(first[-1][1]))
    put("cudaFirstPrefill", number(first[0][0]))
    put("cudaLastPrefill", number(first[-1][0]))
    put("cudaDecodeGain", f"{first[-1][1] / first[0][1]:.1f}")
    put("cudaPrefillGain", f"{first[-1][0] / first[0][0]:.1f}")
    lines = []
    for shape, work, prefill, decode in re.findall(r"^((?:qwen3|gpt)[\w.-]+) +(\w+(?:, \d+ before)?) +([\d.]+|-)(?: \([^)]*\))? +([\d.]+)", versions[-1], re.M):
        context = work.partition(", ")[2].replace(" before", "")
        lines.append(f"{shape} & {work.partition(',')[0].replace('_', chr(92) + '_')} & {number(int(context)) if context else '--'} & "
                     f"{number(float(prefill)) if prefill != '-' else '--'} & {number(float(decode))} \\\\")
    put("cudaTable", "\n".join(lines))
    put("cudaOps", re.findall(r"ops_test (\d+) of \1", text)[-1])
    put("cudaGoldens", re.findall(r"golden_test (\d+) of \1", text)[-1])
    chain = re.search(r"(\d+) to (\d+) tok/s of qwen3-4b q8_0, where launches gave\s+(\d+)", text)
    put("chainLow", chain[1])
    put("chainHigh", chain[2])
    put("chainLaunches", chain[3])


def metal():
    """The Metal kernels on an H200."""
    text = (RESULTS / "metal_on_h200.txt").read_text(encoding="utf-8")
    put("metalBandwidth", number(int(re.search(r"read bandwidth measured (\d+) GB/s", text)[1])))
    put("metalOps", re.search(r"metal_cuda_ops_test: (\d+) tests passed", text)[1])
    rows, seen = [], set()
    for row in csv.reader(text.splitlines()):
        if len(row) == 11 and row[0] in ("q8_0", "q4_0", "mxfp4") and row[2] in ("row", "few_rows"):
            kernel = "row" if int(row[4]) >= 8192 else "few_rows"
            if row[2] == kernel and (row[0], row[1]) not in seen:
                seen.add((row[0], row[1]))
                beside = next((r[9] for r in csv.reader(text.splitlines()) if r[:3] == [row[0], row[1], "row"] and len(r) == 11), row[9])
                rows.append(f"{row[0].replace('_', chr(92) + '_')} & {row[1]} & {float(row[5]):.1f} & {100 * float(beside):.0f} & {100 * float(row[7]):.0f} \\\\")
    put("metalTable", "\n".join(rows))


def suite():
    """The suite of a 0.6B shape on two cores. Its prompts of up to 256 tokens were partly in the cache, so that only decode counts."""
    data = json.loads((RESULTS / "suite_qwen3_0.6b_epyc_2.json").read_text(encoding="utf-8"))
    rows = data["rows"]
    prompts = sorted((r for r in rows if r["kind"] == "prompt"), key=lambda r: r["prompt"])
    put("suiteDecode", " ".join(f"({r['prompt']},{r['tokens_per_s']['median']:.1f})" for r in prompts))
    read, weights, best = data["machine"]["read_bytes_per_s"], prompts[0]["weight_bytes"], prompts[0]["tokens_per_s"]["median"]
    put("suiteRead", f"{read / 1e9:.1f}")
    put("suiteWeights", f"{weights / 1e6:.0f}")
    put("suiteBound", f"{read / weights:.0f}")
    put("suiteBest", f"{best:.1f}")
    put("suiteShare", f"{100 * best * weights / read:.0f}")
    put("suiteLongest", number(prompts[-1]["prompt"]))
    put("suiteLongestDecode", f"{prompts[-1]['tokens_per_s']['median']:.1f}")
    lines = []
    for phase in data["ops"][0]["phases"]:
        for op in phase["ops"][:5]:
            rate = f"{op['bytes_per_s'] / 1e9:.1f} GB/s" if phase["phase"] == "decode" else f"{op.get('flops_per_s', 0) / 1e9:.0f} GFLOP/s"
            lines.append(f"{phase['phase']} & {op['op']} & {100 * op['share']:.1f} & {rate} \\\\")
    put("suiteOps", "\n".join(lines))


def counts():
    put("countFormats", str(len(re.findall(r"X\(\w+, -?\d+, \"", (ROOT / "src/quant/format_list.h").read_text(encoding="utf-8")))))
    put("countGoldens", str(sum(p.is_dir() for p in (ROOT / "tests/data/goldens").iterdir())))
    put("countRooms", str(sum(p.is_dir() for p in (ROOT / "src").iterdir())))


def main():
    out = pathlib.Path(sys.argv[2]) if sys.argv[1:2] == ["-o"] else HERE / "numbers.tex"
    for part in (peers, sizes, cuda, metal, suite, counts):
        part()
    text = "% Made by make_numbers.py from bench/results/.\n" + "".join(f"\\newcommand{{\\{n}}}{{{v}}}\n" for n, v in macros.items())
    if sys.argv[1:2] == ["--check"]:
        if (HERE / "numbers.tex").read_text(encoding="utf-8") != text:
            sys.exit("docs/paper/numbers.tex is not what bench/results/ gives: docs/paper/build.sh makes it and the paper anew")
        print(f"{len(macros)} numbers are those of the results")
        return
    out.write_text(text, encoding="utf-8")


main()
