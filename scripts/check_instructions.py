#!/usr/bin/env python3
"""Fails where a token of decode or prefill takes more instructions than it did, which no noise of the machine hides.
usage: check_instructions.py SMELT MODEL [--print]. Counted under callgrind with the AVX2 kernels and one thread: a run with twice the
tokens less a run with the tokens. What becomes more on purpose goes into `known`, with the commit that did it. Exit 77 (skipped) where
valgrind or AVX2 is missing, or the compiler is another than Debian 12's."""
import re
import shutil
import subprocess
import sys
import tempfile

# Instructions a token, models/demo-5m, g++ 12: chunk of 1 (decode) and of all (prefill).
known = {"decode": 8421956, "prefill": 4603408}
n_tokens = 12


def count(smelt, model, n, chunk):
    ids = ",".join(str(7 + 13 * i % 200) for i in range(n))
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", smelt, "logits", model, "--device", "cpu", "--isa", "avx2",
             "-t", "1", "--ids", ids, "--chunk", str(chunk), "-o", f"{folder}/logits.npy"],
            capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"smelt logits under callgrind: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return int(re.search(r"Collected : (\d+)", done.stderr).group(1))


def main():
    smelt, model = sys.argv[1:3]
    compiler = subprocess.run(["c++", "--version"], capture_output=True, text=True).stdout
    try:
        avx2 = " avx2 " in open("/proc/cpuinfo").read()
    except OSError:
        avx2 = False
    if not shutil.which("valgrind") or not avx2 or "Debian 12" not in compiler:
        print("valgrind, AVX2 or Debian 12's g++ is missing: skipped")
        return 77
    failed = False
    for work, chunk in (("decode", 1), ("prefill", 0)):
        n = (count(smelt, model, 2 * n_tokens, chunk) - count(smelt, model, n_tokens, chunk)) // n_tokens
        most = known[work] * 103 // 100
        print(f"{work}: {n} instructions a token; {known[work]} are known, {most} at most")
        failed |= n > most
    return 1 if failed and "--print" not in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
