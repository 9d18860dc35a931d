#!/usr/bin/env python3
"""The report of committed results: its plots are there, it is well-formed, and it loads nothing from elsewhere.
usage: report.py SMELT SOURCE_DIR"""
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

smelt, source = sys.argv[1], pathlib.Path(sys.argv[2])
SUITE = ["speed-by-prompt", "prefill-by-prompt", "ttft-by-prompt", "speed-up", "speed-by-answer", "speed-by-streams", "latency",
         "ttft-by-streams", "speed-by-threads", "prefill-by-threads", "memory", "utilisation", "speed-over-time", "strategies",
         "formats", "formats-prefill", "formats-memory", "cases", "start", "roofline-cpu--prefill", "roofline-cpu--decode",
         "ops-cpu--prefill", "ops-cpu--decode"]
failures = []


def check(condition, text):
    if not condition:
        failures.append(text)


def make(results, folder):
    done = subprocess.run([smelt, "report", *map(str, results), "-o", folder], capture_output=True, text=True)
    check(done.returncode == 0, f"{results}: exit status {done.returncode}: {done.stderr}")
    return done.stderr


def check_page(folder, wanted):
    page = (folder / "report.html").read_text()
    tree = ElementTree.fromstring(page.replace("<!DOCTYPE html>", ""))
    figures = [f.get("id") for f in tree.iter("figure")]
    for plot in wanted:
        check(plot in figures, f"no plot {plot} among {figures}")
        svg = folder / f"{plot}.svg"
        check(svg.exists() and ElementTree.parse(svg).getroot().tag.endswith("svg"), f"{svg}: no picture")
    check(len(figures) == len(set(figures)), f"plots of one name: {figures}")
    elsewhere = [u for u in re.findall(r"(?:src|href|url|@import)\W{1,3}[^\s>]+|https?://[^\"'\s<]+", page)
                 if u != "http://www.w3.org/2000/svg" and "127.0.0.1" not in u]
    check(not elsewhere, f"the page refers to {elsewhere}")
    check("nan" not in re.sub(r">[^<]*<", "><", page), "a number that is none")
    check("prefers-color-scheme: dark" in page and 'name="viewport"' in page, "no dark colours, or not for phones")
    return figures


with tempfile.TemporaryDirectory() as work:
    folder = pathlib.Path(work, "suite")
    told = make([source / "tests/report/suite.json"], folder)
    figures = check_page(folder, SUITE)
    text = (folder / "report.html").read_text()
    for part in ["question-1", "Who is Clinton?", "smelt bench", "cores", "speed-up", "Named cases", "Not measured"]:
        check(part in text, f"the page does not say {part}")
    if "no PNG" in told:
        print(told)
    else:
        for plot in figures:
            check((folder / f"{plot}.png").read_bytes()[:4] == b"\x89PNG", f"{plot}.png is none")
        pdf = (folder / "report.pdf").read_bytes()
        check(pdf.startswith(b"%PDF") and len(pdf) > 20000, "report.pdf is none")
        check((folder / "report.pdf").stat().st_size < 3_000_000, "the PDF is large")
    check((folder / "report.html").stat().st_size < 3_000_000, "the page is large")

    # What bench/compare.py measured: threads, contexts, formats and programs.
    for name, wanted in [("cpu_epyc_2_cores", ["programs", "programs-prefill"]), ("cpu_peers_epyc_2", ["programs"]),
                         ("cpu_xeon_16_cores", ["speed-by-threads-q4-0", "programs-16-threads--empty-context"])]:
        folder = pathlib.Path(work, name)
        make([source / f"bench/results/{name}.csv"], folder)
        check_page(folder, wanted)

print("\n".join(failures) or "the reports are whole")
sys.exit(1 if failures else 0)
