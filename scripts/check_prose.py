#!/usr/bin/env python3
"""Names lines of Markdown prose over 160 characters; exit 1 if there are any. Code, tables and addresses may be longer.
usage: check_prose.py [--fix] [FILE...]: without files all of the repository, with --fix their paragraphs are laid out anew."""
import pathlib
import re
import subprocess
import sys
import textwrap

WIDTH = 160
ROOT = pathlib.Path(__file__).resolve().parent.parent
ITEM = re.compile(r"^(\s*)([-*] |\d+\. )")


def is_fixed(line):
    """A line that is none of a paragraph's."""
    return not line.strip() or re.match(r"^\s*(\||#|<|!\[|>|```|---)", line) or line.startswith("    ")


def paragraphs(text):
    """Lists of (number, line), one for each paragraph or item; lines of code and the like alone, as (number, line)."""
    block, in_code = [], False
    for number, line in enumerate(text.split("\n"), 1):
        fence = line.lstrip().startswith("```")
        if in_code or fence or (is_fixed(line) and not (block and line.startswith("    ") and line.strip())):
            if block:
                yield block
            block = []
            in_code = in_code != fence
            yield (number, line)
            continue
        if block and ITEM.match(line):
            yield block
            block = []
        block.append((number, line))
    if block:
        yield block


def is_long(block):
    # A word that is longer by itself stays.
    return any(len(line) > WIDTH and len(line.split(" ")) > 1 and " " in line.strip()[: WIDTH - 10] for _, line in block)


def laid_out(block):
    first = block[0][1]
    item = ITEM.match(first)
    indent = re.match(r"^\s*", first).group()
    hanging = " " * len(item.group()) if item else indent
    words = " ".join(line.strip() for _, line in block)
    return textwrap.wrap(words, WIDTH - 10, initial_indent=indent, subsequent_indent=hanging,
                         break_long_words=False, break_on_hyphens=False)


def main():
    arguments = sys.argv[1:]
    fix = arguments[:1] == ["--fix"]
    names = arguments[1:] if fix else arguments
    if not names:
        listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True)
        if listed.returncode != 0:
            print("no git checkout: skipped")
            return 77
        names = [str(ROOT / name) for name in listed.stdout.split()]
    n_long = 0
    for name in names:
        path = pathlib.Path(name)
        text = path.read_text(encoding="utf-8")
        lines = []
        for block in paragraphs(text):
            if isinstance(block, tuple):
                lines.append(block[1])
            elif not is_long(block):
                lines += [line for _, line in block]
            elif fix:
                lines += laid_out(block)
            else:
                n_long += 1
                print(f"{name}:{block[0][0]}: a line of more than {WIDTH} characters; {sys.argv[0]} --fix lays it out")
        if fix and "\n".join(lines) != text:
            path.write_text("\n".join(lines), encoding="utf-8")
    return 1 if n_long else 0


sys.exit(main())
