#!/usr/bin/env python3
"""Renders the small templates of tests/data/templates/language.json by Jinja2, set up as transformers does, and writes what comes out.

usage: make_template_cases.py language.json     (needs Jinja2 3.1.5: Debian 12's 3.1.2 lacks one thing, namespaces
where several names are set at once)

A new case is {"template": ...} in that file; this script gives it its "text", which smelt must render exactly, or its "error", type and
message. Cut an error down to its type where only that is promised (CPython's wording differs between versions, or ours is clearer): it
stays so.
"""
import datetime
import json
import sys

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


NOW = datetime.datetime(2026, 11, 20, 12, 0, 0)
ENV = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
ENV.filters["tojson"] = tojson
ENV.globals["raise_exception"] = raise_exception
ENV.globals["strftime_now"] = NOW.strftime


def render(case, variables):
    try:
        return {"text": ENV.from_string(case["template"]).render(**json.loads(json.dumps(variables)))}
    except Exception as e:  # noqa: BLE001: whatever it is, it is the expected result
        name = type(e).__name__
        return {"error": name if case.get("error") == name else f"{name}: {e}"}


def main(path):
    with open(path) as f:
        file = json.load(f)
    file["cases"] = [{"template": case["template"], **render(case, file["variables"])} for case in file["cases"]]
    with open(path, "w") as f:
        json.dump(file, f, ensure_ascii=False, indent=1)
        f.write("\n")


main(*sys.argv[1:])
