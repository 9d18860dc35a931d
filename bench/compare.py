#!/usr/bin/env python3
"""Times smelt and its peers on the same GGUF files. Runs alternate, because the speed of a shared machine drifts.

    bench/compare.py --smelt build/smelt --peer llama.cpp=PATH/llama-bench --peer ik=PATH/llama-bench:-rtr,1 \\
        --threads 1,2 --prompt 512 --decode 64 --depth 0,4096 --rounds 5 --out bench/results/NAME FILE.gguf...

A peer is any program that takes llama-bench's options (-m -t -p -n -d -r -o json); what stands after a colon are
further options, separated by commas. --smelt may be given several times (NAME=PATH) to compare builds. Each round
runs every program once, in an order that is turned by one from round to round. NAME.csv gets every run, NAME.md the
medians, the worst and best, and smelt's ratio to the best peer with the spread of the ratios of the rounds.
`smelt bench --shape SHAPE --format FORMAT --save FILE.gguf` makes files of published shapes.
"""
import argparse
import csv
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys


def machine():
    model, cores = platform.processor() or platform.machine(), set()
    try:
        core, package = "0", "0"
        for line in open("/proc/cpuinfo"):
            key, _, value = (part.strip() for part in line.partition(":"))
            if key == "model name":
                model = value
            elif key == "physical id":
                package = value
            elif key == "core id":
                core = value
                cores.add((package, core))
    except OSError:
        pass
    return f"{model}, {len(cores) or os.cpu_count()} cores, {platform.system()} {platform.release()}"


def named(text, default):
    """NAME=PATH[:option,option...]"""
    name, _, rest = text.rpartition("=") if "=" in text.split(":")[0] else (default, "", text)
    path, _, options = rest.partition(":")
    return name, path, [o for o in options.split(",") if o]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def smelt_rate(path, options, file, case, threads):
    n_prompt, n_decode, depth = case
    command = [path, "bench", file, "--device", "cpu", "-t", str(threads), "-r", "1", "--json", "-p", str(n_prompt),
               "-n", str(n_decode), "--depth", str(depth), *options]
    result = run(command)
    return result["prefill" if n_prompt else "decode"]["tokens_per_s"]["median"]


def peer_rate(path, options, file, case, threads):
    n_prompt, n_decode, depth = case
    command = [path, "-m", file, "-t", str(threads), "-r", "1", "-o", "json", "-p", str(n_prompt), "-n", str(n_decode)]
    command += (["-d", str(depth)] if depth else []) + options
    rows = [r for r in run(command) if (r["n_prompt"], r["n_gen"]) == (n_prompt, n_decode)]
    if not rows:
        sys.exit(f"{' '.join(command)}: no row for {n_prompt} tokens of prompt and {n_decode} of answer")
    return rows[0]["avg_ts"]


def title(case):
    n_prompt, n_decode, depth = case
    return f"prefill {n_prompt}" if n_prompt else f"decode {n_decode}" + (f" at {depth}" if depth else "")


def spread(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="+", metavar="FILE.gguf")
    p.add_argument("--smelt", action="append", required=True, metavar="[NAME=]PATH[:OPTION,...]")
    p.add_argument("--peer", action="append", default=[], metavar="NAME=PATH[:OPTION,...]")
    numbers = lambda text: [int(n) for n in text.split(",")]
    p.add_argument("--threads", type=numbers, default=[os.cpu_count()])
    p.add_argument("--prompt", type=int, default=512, help="tokens of prefill; 0: none")
    p.add_argument("--decode", type=int, default=64, help="tokens of decode; 0: none")
    p.add_argument("--depth", type=numbers, default=[0], help="tokens in the context before decode begins")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--out", required=True, metavar="NAME", help="writes NAME.csv and NAME.md")
    args = p.parse_args()

    ours = [named(s, "smelt") for s in args.smelt]
    programs = [(n, path, o, smelt_rate) for n, path, o in ours]
    programs += [(*named(s, os.path.basename(s.split(":")[0])), peer_rate) for s in args.peer]
    for name, path, _, _ in programs:
        if not os.access(path, os.X_OK):
            p.error(f"{name}: {path}: not an executable file")
    cases = [(args.prompt, 0, 0)] if args.prompt else []
    cases += [(0, args.decode, d) for d in args.depth] if args.decode else []
    rates = {}  # (file, threads, case) -> name -> [rate of each round]
    started = datetime.datetime.now().isoformat(timespec="seconds")
    with open(args.out + ".csv", "w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["file", "threads", "prompt", "decode", "depth", "round", "program", "tokens_per_s"])
        todo = [(f, t, c) for f in args.files for t in args.threads for c in cases]
        for n_done, (file, threads, case) in enumerate(todo):
            for turn in range(args.rounds):
                for i in range(len(programs)):
                    name, path, options, rate = programs[(turn + i) % len(programs)]
                    value = rate(path, options, file, case, threads)
                    rates.setdefault((file, threads, case), {}).setdefault(name, []).append(value)
                    table.writerow([os.path.basename(file), threads, *case, turn, name, f"{value:.4f}"])
                    out.flush()
            print(f"{n_done + 1} of {len(todo)}: {os.path.basename(file)}, {threads} threads, {title(case)}: "
                  + ", ".join(f"{n} {spread(v)}" for n, v in rates[(file, threads, case)].items()), file=sys.stderr)

    names = [p[0] for p in programs]
    first, others = names[0], names[1:]
    with open(args.out + ".md", "w") as out:
        out.write(f"{machine()}; {started}; tok/s, median of {args.rounds} alternating rounds (worst to best).\n\n")
        out.write("`" + " ".join(["bench/compare.py", *sys.argv[1:]]) + "`\n\n")
        out.write("| file | threads | work | " + " | ".join(names) + f" | {first} to the best other (worst to best round) |\n")
        out.write("|---" * (4 + len(names)) + "|\n")
        for (file, threads, case), by_name in rates.items():
            ratio = ""
            if others:
                best = max(others, key=lambda n: statistics.median(by_name[n]))
                each = [a / b for a, b in zip(by_name[first], by_name[best])]
                ratio = f"{statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f}), {best}"
            out.write(f"| {os.path.basename(file)} | {threads} | {title(case)} | "
                      + " | ".join(spread(by_name[n]) for n in names) + f" | {ratio} |\n")
    print(open(args.out + ".md").read())


if __name__ == "__main__":
    main()
