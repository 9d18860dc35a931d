#!/usr/bin/env python3
"""What 31 answers under a costly grammar do to the pace of one without: little more than 31 answers without any.

usage: grammar_gap.py SMELT MODEL
"""
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

COMPANY = 31
MOST = 2.0  # times the gap among answers without a grammar
FIELDS = [f"p{i}" for i in range(8)]
COSTLY = {
    "type": "object",
    "properties": {f: {"type": "string", "pattern": "^([a-z]{1,9}[0-9]|[A-Z]{2,8}|x.*y){1,6}$"} for f in FIELDS},
    "required": FIELDS,
}


class Server:
    def __init__(self, smelt, model):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{s.getsockname()[1]}"
        port = self.url.rsplit(":", 1)[1]
        self.process = subprocess.Popen(
            [smelt, "serve", model, "--port", port, "--parallel", str(COMPANY + 1), "--kv-tokens", "40000", "-q"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(300):
            try:
                urllib.request.urlopen(self.url + "/health").close()
                return
            except OSError:
                time.sleep(0.1)
        sys.exit("the server does not start")

    def times(self, body, stop=None):
        """When each event of the answer came; ends early when `stop` is set."""
        request = urllib.request.Request(self.url + "/completion", json.dumps({**body, "stream": True}).encode(),
                                         {"content-type": "application/json"})
        times = []
        with urllib.request.urlopen(request) as reply:
            for line in reply:
                if line.startswith(b"data"):
                    times.append(time.perf_counter())
                if stop is not None and stop.is_set():
                    break
        return times

    def gap(self):
        """Milliseconds between two tokens of a plain answer: the median."""
        times = self.times({"prompt": "Once upon a time", "n_predict": 150, "ignore_eos": True, "temperature": 0})
        return 1e3 * statistics.median(b - a for a, b in zip(times[5:], times[6:]))

    def gap_among(self, body):
        stop = threading.Event()
        faults = []

        def ask():
            while not stop.is_set():
                try:
                    self.times(body, stop)
                except urllib.error.HTTPError as e:
                    faults.append(e.read()[:300])
                    return

        threads = [threading.Thread(target=ask) for _ in range(COMPANY)]
        for t in threads:
            t.start()
        time.sleep(2)  # until all are under way
        gap = statistics.median(self.gap() for _ in range(3))
        stop.set()
        for t in threads:
            t.join()
        if faults:
            sys.exit(f"an answer was refused: {faults[0]}")
        return gap


def main():
    server = Server(*sys.argv[1:3])
    try:
        alone = server.gap()
        plain = {"prompt": "Tell me", "n_predict": 300, "temperature": 1}
        among_plain = server.gap_among({**plain, "ignore_eos": True})
        among_grammars = server.gap_among({**plain, "json_schema": COSTLY})
    finally:
        server.process.terminate()
        server.process.wait()
    print(f"ms a token: alone {alone:.1f}, beside {COMPANY} answers {among_plain:.1f}, "
          f"beside {COMPANY} under a grammar {among_grammars:.1f}")
    if among_grammars > MOST * among_plain:
        sys.exit(f"more than {MOST} times the gap without grammars")


main()
