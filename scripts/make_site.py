#!/usr/bin/env python3
"""Makes the documentation site from README.md, docs/ and docs/guides/: static pages with navigation and search, which load nothing from
elsewhere and open from a folder as well as from a server. Standard library only; the Markdown is what these files use, not all of it.

usage: make_site.py OUT_DIR [--cpp FILE]     --cpp also writes the pages, compressed, as the source that `smelt serve` is built with
"""
import argparse
import gzip
import html
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ASSETS = ROOT / "src" / "server" / "pages"


class Page:
    def __init__(self, path, group):
        self.path, self.group = path, group
        self.text = (ROOT / path).read_text(encoding="utf-8")
        stem = path.stem if path.parent.name != "guides" else "guide-" + path.stem
        self.name = {"README": "index", "guide-README": "guides"}.get(stem, stem.lower().replace("_", "-")) + ".html"
        self.title = re.search(r"^# (.+)", self.text, re.M)[1].replace("`", "")


def list_pages():
    guides = ROOT / "docs" / "guides"
    order = re.findall(r"\]\(([\w-]+\.md)\)", (guides / "README.md").read_text(encoding="utf-8"))
    guide_names = ["README.md", *dict.fromkeys(order), *sorted({p.name for p in guides.glob("*.md")} - {"README.md", *order})]
    pages = [Page(pathlib.Path("README.md"), "")]
    pages += [Page(pathlib.Path("docs/guides") / n, "Guides") for n in guide_names]
    pages += [Page(p.relative_to(ROOT), "Reference") for p in sorted((ROOT / "docs").glob("*.md"))]
    pages += [Page(pathlib.Path(n), "Project") for n in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    return pages


class Renderer:
    """One page's Markdown as HTML, and its sections as plain text for the search."""

    def __init__(self, page, by_path):
        self.page, self.by_path = page, by_path
        self.ids, self.sections = {}, [["", "", []]]
        self.broken = []

    def find(self, target):
        """The page that a path means, from the page's folder or from the root."""
        for base in (self.page.path.parent, pathlib.Path(".")):
            path = (ROOT / base / target).resolve()
            if path.is_relative_to(ROOT) and path.relative_to(ROOT) in self.by_path:
                return self.by_path[path.relative_to(ROOT)]
        return None

    def link(self, label, target):
        if re.match(r"https?://", target):
            return f'<a href="{html.escape(target)}" rel="noreferrer">{self.inline(label)}</a>'
        path, _, anchor = target.partition("#")
        page = self.find(path) if path else self.page
        if page is None:
            self.broken.append(target)
            return self.inline(label)
        return f'<a href="{page.name}{"#" + anchor if anchor else ""}">{self.inline(label)}</a>'

    def code(self, text):
        shown = f"<code>{html.escape(text)}</code>"
        page = self.find(text) if re.fullmatch(r"[\w./-]+\.md", text) else None
        return f'<a href="{page.name}">{shown}</a>' if page and page is not self.page else shown

    def inline(self, text):
        out, at = [], 0
        pattern = re.compile(r"(`+)(.+?)\1|!\[([^\]]*)\]\(([^)]*)\)|\[((?:[^\]`]|`[^`]*`)*)\]\(([^)]*)\)|\*\*(.+?)\*\*|"
                             r"(?<![\w*])\*(?=\S)([^*]+?)(?<=\S)\*(?![\w*])|\\([!-/:-@\[-`{-~])|<(https?://[^>]+)>", re.S)
        for m in pattern.finditer(text):
            out.append(html.escape(text[at:m.start()], quote=False))
            at = m.end()
            if m[1]:
                out.append(self.code(m[2].strip() if len(m[1]) > 1 else m[2]))
            elif m[4]:
                out.append(f"<em>Picture: {self.inline(m[3])}</em>")
            elif m[6]:
                out.append(self.link(m[5], m[6]))
            elif m[7]:
                out.append(f"<strong>{self.inline(m[7])}</strong>")
            elif m[8]:
                out.append(f"<em>{self.inline(m[8])}</em>")
            elif m[9]:
                out.append(html.escape(m[9], quote=False))
            elif m[10]:
                out.append(self.link(m[10], m[10]))
        return "".join(out) + html.escape(text[at:], quote=False)

    def heading(self, level, text):
        plain = re.sub(r"[`*]", "", text)
        slug = re.sub(r"[^\w -]", "", plain.lower()).strip().replace(" ", "-")
        n = self.ids[slug] = self.ids.get(slug, -1) + 1
        slug += f"-{n}" if n else ""
        if level > 1:
            self.sections.append([slug, plain, []])
        mark = f' <a class="here" href="#{slug}" aria-label="Link to {html.escape(plain)}">#</a>' if level > 1 else ""
        return f'<h{level} id="{slug}">{self.inline(text)}{mark}</h{level}>'

    def table(self, rows):
        def cells(row):
            return [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", row.strip().strip("|") if not row.strip().endswith("\\|")
                                                                   else row.strip()[1:])]

        head, right = cells(rows[0]), [c.endswith(":") for c in cells(rows[1])]

        def line(tag, row):
            return "<tr>" + "".join(f'<{tag}{" class=number" if i < len(right) and right[i] else ""}>{self.inline(c)}</{tag}>'
                                    for i, c in enumerate(row)) + "</tr>"

        top = f"<thead>{line('th', head)}</thead>" if any(head) else ""
        return f'<div class="wide" tabindex="0"><table>{top}<tbody>' + "".join(line("td", cells(r)) for r in rows[2:]) + "</tbody></table></div>"

    def blocks(self, lines):
        out, i = [], 0
        while i < len(lines):
            line = lines[i]
            if not line.strip():
                i += 1
                continue
            fence = re.match(r"```(\w*)", line)
            if fence:
                end = next(k for k in range(i + 1, len(lines)) if lines[k].startswith("```"))
                out.append(self.pre(lines[i + 1:end]))
                i = end + 1
            elif line.startswith("    "):
                end = i
                while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                    end += 1
                out.append(self.pre([x[4:] for x in lines[i:end]]))
                i = end
            elif re.match(r"#{1,6} ", line):
                marks, text = line.split(" ", 1)
                out.append(self.heading(len(marks), text.strip()))
                i += 1
            elif line.startswith("|") and i + 1 < len(lines) and re.match(r"\|[\s:|-]+$", lines[i + 1]):
                end = i
                while end < len(lines) and lines[end].startswith("|"):
                    end += 1
                self.remember(" ".join(lines[i:end]))
                out.append(self.table(lines[i:end]))
                i = end
            elif re.match(r"([-*]|\d+\.) ", line):
                ordered, items = line[0].isdigit(), []
                while i < len(lines) and (re.match(r"([-*]|\d+\.) ", lines[i]) or (lines[i].startswith("  ") and lines[i].strip())):
                    text = re.sub(r"^([-*]|\d+\.) +", "", lines[i])
                    if text != lines[i]:
                        items.append([text])
                    else:
                        items[-1].append(lines[i].strip())
                    i += 1
                self.remember(" ".join(" ".join(x) for x in items))
                tag = "ol" if ordered else "ul"
                out.append(f"<{tag}>" + "".join(f"<li>{self.inline(' '.join(x))}</li>" for x in items) + f"</{tag}>")
            else:
                end = i + 1
                while end < len(lines) and lines[end].strip() and not re.match(r"```|#{1,6} |\||([-*]|\d+\.) ", lines[end]):
                    end += 1
                text = "\n".join(lines[i:end])
                self.remember(text)
                out.append(f"<p>{self.inline(text)}</p>")
                i = end
        return out

    def pre(self, lines):
        text = "\n".join(lines).rstrip()
        self.remember(text)
        return f'<pre tabindex="0"><code>{html.escape(text, quote=False)}</code></pre>'

    def remember(self, text):
        text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
        self.sections[-1][2].append(re.sub(r"[`*|]+|\s+|-{3,}", " ", text))


def navigation(pages, current):
    out, group = [], None
    for page in pages:
        if page.group != group:
            out.append(("</ul>" if group is not None else "") + (f"<h2>{page.group}</h2>" if page.group else "") + "<ul>")
            group = page.group
        here = ' aria-current="page"' if page is current else ""
        out.append(f'<li><a href="{page.name}"{here}>{html.escape(page.title)}</a></li>')
    return "".join(out) + "</ul>"


def document(page, pages, body):
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{html.escape(page.title)}{" – smelt" if page.title != "smelt" else ""}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="icon.svg">
<link rel="stylesheet" href="site.css">
<script defer src="search-index.js"></script>
<script defer src="site.js"></script>
</head>
<body>
<a class="skip" href="#site-text">Skip to the text</a>
<header>
<a class="name" href="index.html">smelt</a>
<form role="search"><input id="site-search" type="search" aria-label="Search" placeholder="Search" autocomplete="off" spellcheck="false"></form>
<button type="button" id="site-menu" aria-expanded="false" aria-controls="site-pages">Pages</button>
</header>
<ol id="site-results" hidden aria-label="Found"></ol>
<nav id="site-pages" aria-label="Pages">{navigation(pages, page)}</nav>
<main id="site-text">
{body}
</main>
</body>
</html>
"""


def make_site():
    """The site's files by name, and links that lead nowhere."""
    pages = list_pages()
    by_path = {p.path: p for p in pages}
    if len({p.name for p in pages}) != len(pages):
        sys.exit("two pages have one name")
    files, index, broken = {}, [], []
    for page in pages:
        renderer = Renderer(page, by_path)
        body = "\n".join(renderer.blocks(page.text.split("\n")))
        files[page.name] = document(page, pages, body)
        broken += [f"{page.path}: {target}" for target in renderer.broken]
        index.append([page.name, page.title, [[s, h, " ".join(" ".join(t).split())] for s, h, t in renderer.sections if h or t]])
    files["search-index.js"] = "'use strict';\nconst smeltPages = " + json.dumps(index, ensure_ascii=False, separators=(",", ":")) + ";\n"
    files["site.css"] = (ASSETS / "web" / "style.css").read_text(encoding="utf-8") + (ASSETS / "site" / "site.css").read_text(encoding="utf-8")
    files["site.js"] = (ASSETS / "site" / "site.js").read_text(encoding="utf-8")
    files["icon.svg"] = (ASSETS / "web" / "icon.svg").read_text(encoding="utf-8")
    return files, broken


def cpp(files):
    """The source of doc_files(): each file compressed by gzip, whose bytes do not depend on when it is made."""
    arrays, table = [], []
    for i, (name, text) in enumerate(files.items()):
        data = gzip.compress(text.encode(), compresslevel=9, mtime=0)
        arrays.append(f"const unsigned char file_{i}[] = {{{','.join(map(str, data))}}};")
        table.append(f'    {{"{name}", {{reinterpret_cast<const char*>(file_{i}), sizeof file_{i}}}}},')
    return "\n".join(["// Made by scripts/make_site.py.", '#include "server/pages/web_files.h"', "", "namespace smelt {", "", "namespace {", "", *arrays,
                      "const WebFile files[] = {", *table, "};", "", "}  // namespace", "", "std::span<const WebFile> doc_files() {",
                      "    return files;", "}", "", "}  // namespace smelt", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--cpp", type=pathlib.Path)
    arguments = parser.parse_args()
    files, broken = make_site()
    if broken:
        sys.exit("links that lead nowhere: " + ", ".join(broken))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (arguments.out / name).write_text(text, encoding="utf-8")
    if arguments.cpp:
        arguments.cpp.write_text(cpp(files), encoding="utf-8")


if __name__ == "__main__":
    main()
