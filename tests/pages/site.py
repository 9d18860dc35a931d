#!/usr/bin/env python3
"""The documentation below /docs, as `smelt serve` has it: every page of the repository is there, is well-formed and compressed, loads
nothing from elsewhere, and every link and place in it exists. pages.mjs opens it in a browser. usage: site.py SMELT SOURCE_DIR"""
import gzip
import html.parser
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

smelt, source = sys.argv[1], pathlib.Path(sys.argv[2])
OPEN_ENDED = {"meta", "link", "input", "br", "img", "hr"}


class Reader(html.parser.HTMLParser):
    def __init__(self, name, text):
        super().__init__()
        self.ids, self.links, self.loads, self.open, self.faults, self.name = [], [], [], [], [], name
        self.feed(text)
        self.faults += [f"{name}: <{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "a":
            self.links.append(attrs["href"])
        elif attrs.get("href") or attrs.get("src"):
            self.loads.append(attrs.get("href") or attrs.get("src"))
        self.faults += [f"{self.name}: <{tag} {a}>" for a in attrs if a == "style" or a.startswith("on")]
        if tag not in OPEN_ENDED:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"{self.name}:{self.getpos()[0]}: </{tag}> closes something else")


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        return answer.headers, answer.read()


def status(url, **headers):
    try:
        get(url, **headers)
        return 200
    except urllib.error.HTTPError as e:
        return e.code


def check(address):
    faults, pages, waiting = [], {}, ["index.html"]
    if b"url=docs/index.html" not in get(address + "/docs")[1]:
        faults.append("/docs does not lead to docs/index.html")
    for path, headers, wanted in [("/docs/secret.html", {}, 404), ("/docs/..%2fkeys", {}, 404), ("/docs/index.html", {"Accept-Encoding": "br"}, 406)]:
        if status(address + path, **headers) != wanted:
            faults.append(f"{path} {headers}: expected {wanted}")
    while waiting:
        name = waiting.pop()
        if name in pages:
            continue
        headers, body = get(f"{address}/docs/{name}", **{"Accept-Encoding": "gzip"})
        if headers["content-encoding"] != "gzip" or not headers["content-security-policy"].startswith("default-src 'none'"):
            faults.append(f"{name}: {dict(headers)}")
        page = pages[name] = Reader(name, gzip.decompress(body).decode())
        faults += page.faults
        if len(set(page.ids)) != len(page.ids):
            faults.append(f"{name}: an id twice")
        for load in page.loads:
            if "/" in load or status(f"{address}/docs/{load}", **{"Accept-Encoding": "gzip"}) != 200:
                faults.append(f"{name} loads {load}")
        for link in page.links:
            target = link.partition("#")[0]
            if target and "://" not in target and target not in pages:
                waiting.append(target)
    for name, page in pages.items():
        for link in page.links:
            target, _, place = link.partition("#")
            if "://" not in link and place and place not in pages[target or name].ids:
                faults.append(f"{name}: {link} is not there")
    n_sources = len(list((source / "docs").glob("*.md"))) + len(list((source / "docs" / "guides").glob("*.md"))) + 4
    if len(pages) != n_sources:
        faults.append(f"{len(pages)} pages of {n_sources} files: {sorted(pages)}")
    return faults, len(pages)


def main():
    server = subprocess.Popen([smelt, "serve", "models/demo-5m", "--port", "0", "-q"], cwd=source, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().strip()
        try:
            faults, n = check(address)
        except urllib.error.HTTPError as e:
            sys.exit(f"{e.url}: {e}")
    finally:
        server.kill()
        server.wait()
    if faults:
        sys.exit("\n".join(faults))
    print(f"{n} pages are whole")


main()
