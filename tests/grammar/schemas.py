#!/usr/bin/env python3
"""Random schemas, each refused or followed: what a model answers under it is valid JSON of it, says jsonschema.

usage: schemas.py ANSWER_SCHEMAS MODEL N [SEED]; exit 77 where jsonschema is not installed (Debian: python3-jsonschema)
"""
import collections
import contextlib
import json
import random
import re
import subprocess
import sys
import threading
import time

try:
    import jsonschema
except ImportError:
    print("skipped: python3-jsonschema is not installed")
    sys.exit(77)

VALIDATOR = jsonschema.Draft202012Validator
# Not FormatChecker(): there, the formats of other drafts shadow those of this one.
FORMATS_OF_DRAFT = getattr(VALIDATOR, "FORMAT_CHECKER", None) or jsonschema.draft202012_format_checker
MAX_TOKENS = 160
FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "ipv6", "email", "hostname", "duration", "json-pointer"]
PATTERNS = ["^[a-z]+$", "[0-9]{2,4}", "^(yes|no|perhaps)$", "^.{0,5}x", "^[A-Z][a-z]*( [A-Z][a-z]*)*$", "a|b", "^\\d+(\\.\\d+)?$", "\"", "\\\\$",
            "^(?:[^a-y]|\\n){1,3}$", "^\\w+@\\w+$", "(?=a)", "^[é-ü€]*$"]
NAMES = ["id", "name", "kind", "value", "a", "b", "n1", "x y", "é", "quote\"", "back\\slash", "items"]


class Schemas:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def chance(self, p):
        return self.random.random() < p

    def scalar(self):
        r = self.random
        return r.choice([None, True, False, r.randint(-20, 20), r.choice([0.5, -1.25, 1e3]), r.choice(NAMES), "", "x\n", "😀"])

    def value(self, depth=0):
        r = self.random
        kind = r.randrange(8 if depth < 2 else 6)
        if kind == 6:
            return [self.value(depth + 1) for _ in range(r.randrange(3))]
        if kind == 7:
            return {r.choice(NAMES): self.value(depth + 1) for _ in range(r.randrange(3))}
        return self.scalar()

    def number(self, kind):
        r = self.random
        s = {"type": kind}
        low = r.choice([-1000, -7, 0, 1, 3, 99]) if kind == "integer" or self.chance(0.5) else r.choice([-1.5, 0.25, 2.75, 10.125])
        if self.chance(0.5):
            s[r.choice(["minimum", "exclusiveMinimum"])] = low
        if self.chance(0.5):
            s[r.choice(["maximum", "exclusiveMaximum"])] = low + r.choice([0, 1, 2, 5, 100, 12345] if kind == "integer" else [0.5, 1, 7.25, 1000])
        if self.chance(0.2):
            s["multipleOf"] = r.choice([1, 2, 3, 7, 10, 0.5, 250])
        return s

    def string(self):
        r = self.random
        s = {"type": "string"}
        if self.chance(0.3):
            s["minLength"] = r.randrange(6)
        if self.chance(0.4):
            s["maxLength"] = r.randrange(1, 30)
        if self.chance(0.3):
            s["pattern"] = r.choice(PATTERNS)
        elif self.chance(0.2):
            s["format"] = r.choice(FORMATS)
        return s

    def array(self, depth):
        r = self.random
        s = {"type": "array"}
        if self.chance(0.8):
            s["items"] = self.schema(depth + 1)
        if self.chance(0.2):
            s["prefixItems"] = [self.schema(depth + 1) for _ in range(r.randrange(1, 4))]
        if self.chance(0.4):
            s["minItems"] = r.randrange(4)
        if self.chance(0.5):
            s["maxItems"] = r.randrange(5)
        if self.chance(0.03):
            s["uniqueItems"] = True
        return s

    def object(self, depth):
        r = self.random
        s = {"type": "object"}
        names = r.sample(NAMES, r.randrange(5))
        if names or self.chance(0.5):
            s["properties"] = {n: self.schema(depth + 1) for n in names}
        if names and self.chance(0.7):
            s["required"] = r.sample(names, r.randrange(1, len(names) + 1))
        if self.chance(0.4):
            s["additionalProperties"] = r.choice([True, False, self.schema(depth + 1)])
        if self.chance(0.15):
            s["patternProperties"] = {r.choice(["^n", "e$", "[0-9]", "^x"]): self.schema(depth + 1)}
        if self.chance(0.1):
            s["propertyNames"] = r.choice([{"maxLength": 4}, {"pattern": "^[a-z ]*$"}])
        if self.chance(0.1):
            s["minProperties"] = r.randrange(3)
        if self.chance(0.1):
            s["maxProperties"] = r.randrange(1, 4)
        return s

    def schema(self, depth=0):
        r = self.random
        if depth > 3:
            return r.choice([{"type": "integer"}, {"type": "null"}, {"type": "boolean"}, {"const": self.scalar()}])
        kind = r.randrange(16)
        if kind < 2:
            s = self.number(r.choice(["integer", "number"]))
        elif kind < 5:
            s = self.string()
        elif kind < 7:
            s = self.array(depth)
        elif kind < 10:
            s = self.object(depth)
        elif kind == 10:
            s = {"enum": [self.value() for _ in range(r.randrange(1, 5))]}
        elif kind == 11:
            s = r.choice([{"type": r.sample(["null", "boolean", "integer", "number", "string", "array", "object"], 2)}, {"const": self.value()}, True, {}])
        elif kind == 12:
            s = {r.choice(["anyOf", "anyOf", "oneOf"]): [self.schema(depth + 1) for _ in range(r.randrange(1, 4))]}
        elif kind == 13:
            s = {"allOf": [self.schema(depth + 1) for _ in range(r.randrange(1, 3))]}
        elif kind == 14:
            s = {"$ref": r.choice(["#/$defs/one", "#/$defs/two", "#"])}
        else:
            s = {"type": "object", "properties": {"t": {"const": r.choice(["p", "q"])}, "v": self.schema(depth + 1)}, "required": ["t", "v"]}
        if isinstance(s, dict) and self.chance(0.08):
            s[r.choice(["title", "description", "not", "contains", "minLenght", "if", "dependentRequired", "default"])] = r.choice([{}, "text"])
        return s

    def root(self):
        s = self.schema()
        if isinstance(s, dict) and "$ref" in json.dumps(s):
            s["$defs"] = {"one": self.schema(2), "two": self.schema(1)}
        return s


def reason(text):
    """A refusal without its place and its figures."""
    parts = [p for p in text.split(": ") if not p.startswith("/")]
    return re.sub(r'[0-9]+|"[^"]*"|#\S*', "_", ": ".join(parts))[:90]


def check(schema, result):
    """What is wrong with an answer that came to its end, or None."""
    try:
        if result["finish_reason"] != "stop":
            return result["finish_reason"]
        VALIDATOR(schema, format_checker=FORMATS_OF_DRAFT).validate(json.loads(result["answer"]))
    except (ValueError, jsonschema.ValidationError) as e:
        return str(e).splitlines()[0]
    return None


def main():
    program, model, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
    source = Schemas(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    schemas = [source.root() for _ in range(n)]
    answers = subprocess.Popen([program, model, str(MAX_TOKENS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def feed():
        with contextlib.suppress(BrokenPipeError), answers.stdin as pipe:
            pipe.writelines(json.dumps(s) + "\n" for s in schemas)

    threading.Thread(target=feed, daemon=True).start()
    refused, done, begin = collections.Counter(), collections.Counter(), time.monotonic()
    slowest = (0.0, None)  # the longest wait for an answer, and for which
    for i, schema in enumerate(schemas):
        asked = time.monotonic()
        line = answers.stdout.readline()
        if not line:
            print(f"{program} ended with {answers.wait()} after {i} of {n} schemas, at {json.dumps(schema)}")
            return 1
        slowest = max(slowest, (time.monotonic() - asked, i))
        result = json.loads(line)
        if "refused" in result:
            refused[reason(result["refused"])] += 1
        elif result["finish_reason"] == "length":
            done["cut"] += 1
        elif problem := check(schema, result):
            done["wrong"] += 1
            print(f"wrong: {json.dumps(schema)}\n  answer: {result['answer']!r}\n  {problem}", flush=True)
        else:
            done["valid"] += 1
        if (i + 1) % 500 == 0:
            print(f"{i + 1} schemas in {time.monotonic() - begin:.0f} s, slowest {slowest[0]:.1f} s: {json.dumps(schemas[slowest[1]])[:300]}",
                  file=sys.stderr, flush=True)
    for text, count in refused.most_common():
        print(f"{count:6} refused: {text}")
    print(f"{n} schemas: {refused.total()} refused, {done['valid']} answers valid, {done['cut']} cut at {MAX_TOKENS} tokens, {done['wrong']} wrong")
    # A test in which hardly anything is followed to its end would say nothing.
    return 1 if done["wrong"] or done["valid"] < n // 4 else 0


sys.exit(main())
