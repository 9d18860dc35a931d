#!/usr/bin/env python3
"""Random schemas for a server, each refused with 400 or followed: the answer is valid JSON of it, says jsonschema.

usage: schemas.py SMELT MODEL N [SEED]; exit 77 where jsonschema is not installed (Debian: python3-jsonschema)
"""
import collections
import concurrent.futures
import http.client
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
AT_ONCE = 24
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
        if self.chance(0.1):
            s["uniqueItems"] = True
            if self.chance(0.8):
                s["items"] = self.listed(depth)
        return s

    def listed(self, depth):
        """A schema whose values can be listed."""
        r = self.random
        if depth < 4 and self.chance(0.4):
            return {r.choice(["anyOf", "oneOf"]): [self.listed(depth + 1) for _ in range(r.randrange(1, 4))]}
        if self.chance(0.3):
            return r.choice([{"enum": [self.value() for _ in range(r.randrange(1, 12))]}, {"const": self.scalar()}])
        low = r.randrange(-20, 20)
        return {"type": r.choice(["integer", ["integer", "null"]]), "minimum": low, "maximum": low + r.choice([0, 3, 7, 8, 40])}

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
        if isinstance(s, dict) and self.chance(0.12):
            s.update(self.applicator(depth + 1))
        if isinstance(s, dict) and self.chance(0.08):
            s[r.choice(["title", "description", "not", "contains", "minLenght", "if", "dependentRequired", "default"])] = r.choice([{}, "text"])
        return s

    def applicator(self, depth):
        r = self.random
        kind = r.randrange(8)
        if kind == 0:
            return {"not": self.schema(depth)}
        if kind == 1:
            return {"if": self.schema(depth), "then": self.schema(depth), "else": self.schema(depth)}
        if kind == 2:
            return {"oneOf": [{"required": [r.choice(NAMES)]}, {"required": [r.choice(NAMES)]}]}
        if kind == 3:
            return {"dependentRequired": {r.choice(NAMES): [r.choice(NAMES)]}}
        if kind == 4:
            return {"dependentSchemas": {r.choice(NAMES): self.schema(depth)}}
        if kind == 5:
            return {"contains": self.schema(depth), "minContains": r.randrange(1, 3)}
        if kind == 6:
            return {"unevaluatedProperties": r.choice([False, self.schema(depth)])}
        return {"propertyNames": r.choice([{"enum": r.sample(NAMES, 2)}, {"not": {"const": r.choice(NAMES)}}])}

    def root(self):
        s = self.schema()
        if isinstance(s, dict) and "$ref" in json.dumps(s):
            s["$defs"] = {"one": self.schema(2), "two": self.schema(1)}
        return s


def reason(text):
    """A refusal without its field, its place and its figures."""
    parts = [p for p in text.split(": ")[1:] if not p.startswith("/")]
    return re.sub(r'[0-9]+|"[^"]*"|#\S*', "_", ": ".join(parts))[:90]


def body_of(schema, n):
    body = {"messages": [{"role": "user", "content": "Answer in JSON."}], "max_tokens": MAX_TOKENS, "temperature": 0 if n % 4 == 0 else 1,
            "seed": n, "chat_template_kwargs": {"enable_thinking": False}}
    if isinstance(schema, dict):
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "random", "strict": True, "schema": schema}}
    else:
        body["guided_json"] = schema
    return json.dumps(body)


class Client:
    def __init__(self, address):
        self.address = address
        self.of_thread = threading.local()

    def ask(self, schema, n):
        """Status, answer and time."""
        begin = time.monotonic()
        if not hasattr(self.of_thread, "connection"):
            self.of_thread.connection = http.client.HTTPConnection(self.address, timeout=600)
        connection = self.of_thread.connection
        connection.request("POST", "/v1/chat/completions", body_of(schema, n), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read()), time.monotonic() - begin


def outcome(schema, status, result):
    """refused, cut, valid or wrong, and why."""
    if status == 400 and result["error"]["code"] == "invalid_schema":
        return "refused", reason(result["error"]["message"])
    if status != 200:
        return "wrong", f"{status}: {result}"
    choice = result["choices"][0]
    answer = choice["message"]["content"]
    if choice["finish_reason"] == "length":
        return "cut", None
    if choice["finish_reason"] != "stop":
        return "wrong", f"ended by {choice['finish_reason']}: {answer!r}"
    try:
        VALIDATOR(schema, format_checker=FORMATS_OF_DRAFT).validate(json.loads(answer))
    except (ValueError, jsonschema.ValidationError) as e:
        return "wrong", f"{str(e).splitlines()[0]}: {answer!r}"
    return "valid", None


def run(client, schemas):
    refused, done, begin = collections.Counter(), collections.Counter(), time.monotonic()
    slowest = (0.0, 0)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for i, (status, result, seconds) in enumerate(pool.map(client.ask, schemas, range(len(schemas)))):
            kind, why = outcome(schemas[i], status, result)
            done[kind] += 1
            slowest = max(slowest, (seconds, i))
            if kind == "refused":
                refused[why] += 1
            if kind == "wrong":
                print(f"wrong: {json.dumps(schemas[i])}\n  {why}", flush=True)
            if (i + 1) % 500 == 0:
                print(f"{i + 1} schemas in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    for text, count in refused.most_common():
        print(f"{count:6} refused: {text}")
    print(f"slowest: {slowest[0]:.1f} s, {json.dumps(schemas[slowest[1]])[:200]}")
    print(f"{len(schemas)} schemas in {time.monotonic() - begin:.0f} s: {done['refused']} refused, {done['valid']} answers valid, "
          f"{done['cut']} cut at {MAX_TOKENS} tokens, {done['wrong']} wrong")
    # A test in which hardly anything is followed to its end would say nothing.
    return 1 if done["wrong"] or done["valid"] < len(schemas) // 4 else 0


def main():
    smelt, model, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
    source = Schemas(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    schemas = [source.root() for _ in range(n)]
    server = subprocess.Popen([smelt, "serve", model, "--port", "0", "-q"], stdout=subprocess.PIPE, text=True)
    try:
        status = run(Client(server.stdout.readline().strip().removeprefix("http://")), schemas)
    finally:
        server.terminate()
    if server.wait() != 0:
        print(f"the server ended with {server.returncode}")
        return 1
    return status


sys.exit(main())
