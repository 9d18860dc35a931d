#!/usr/bin/env python3
"""Compares two builds of smelt, for example before and after a change. Runs alternate, because the speed of a shared
machine drifts.

    bench/builds.py OLD NEW [--rounds 5] [--threads 8]

Prints a Markdown table: the medians of both, and the mean ratio new/old of the rounds with its 95 % interval. Both
builds must know the options of `smelt bench` that are used here. Peers are compare.py's matter.
"""
import argparse
import json
import math
import statistics
import subprocess

STUDENT_T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}  # by rounds, 95 %


def shape(name, number_format, threads):
    return ["--shape", name, "--format", number_format, "-p", "512", "-n", "64", "-r", "2", "-t", str(threads)]


def serve(clients, requests):
    return ["--serve", "models/demo-5m", "--clients", str(clients), "--requests", str(requests)]


def speed(kind):
    return lambda report: report[kind]["tokens_per_s"]["median"]


def served(report):
    return report["loads"][0]["output_tokens_per_second"]


def works(threads):
    both = {"prefill 512": speed("prefill"), "decode 64": speed("decode")}
    demo = {"prefill 128": speed("prefill"), "decode 256": speed("decode")}
    return [
        ("0.6B q8_0", shape("qwen3-0.6b", "q8_0", threads), both),
        ("0.6B q4_0", shape("qwen3-0.6b", "q4_0", threads), both),
        ("demo-5m", ["models/demo-5m", "-p", "128", "-n", "256", "-r", "3", "-t", "2"], demo),
        ("server, 1 client", serve(1, 8), {"tokens": served}),
        ("server, 32 clients", serve(32, 4), {"tokens": served}),
    ]


def run(binary, options):
    command = [binary, "bench", *options, "--device", "cpu", "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--rounds", type=int, default=5, choices=sorted(STUDENT_T))
    parser.add_argument("--threads", type=int, default=8)
    o = parser.parse_args()
    print("| work | tokens/s old | new | new/old | 95 % interval |\n|---|---|---|---|---|")
    for name, options, measures in works(o.threads):
        pairs = []
        for i in range(o.rounds):
            first, second = (o.old, o.new) if i % 2 == 0 else (o.new, o.old)
            reports = {first: run(first, options)}
            reports[second] = run(second, options)
            pairs.append((reports[o.old], reports[o.new]))
        for what, value in measures.items():
            old, new = [value(p[0]) for p in pairs], [value(p[1]) for p in pairs]
            logs = [math.log(n / m) for m, n in zip(old, new)]
            middle = statistics.mean(logs)
            half = STUDENT_T[o.rounds] * statistics.stdev(logs) / math.sqrt(len(logs))
            print(f"| {name}, {what} | {statistics.median(old):.1f} | {statistics.median(new):.1f} | {math.exp(middle):.3f} "
                  f"| {math.exp(middle - half):.3f} to {math.exp(middle + half):.3f} |", flush=True)


main()
