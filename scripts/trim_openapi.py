#!/usr/bin/env python3
"""Cuts OpenAI's published OpenAPI document (openapi.json of github.com/openai/openai-openapi, MIT licence) down to the
schemas of the answers that smelt gives. usage: trim_openapi.py openapi.json >tests/data/openai/schemas.json"""
import json
import sys

ROOTS = ["CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", "CreateCompletionResponse",
         "CreateEmbeddingResponse", "ListModelsResponse", "Model", "Response", "ErrorResponse",
         "ResponseCreatedEvent", "ResponseInProgressEvent", "ResponseOutputItemAddedEvent", "ResponseOutputItemDoneEvent",
         "ResponseContentPartAddedEvent", "ResponseContentPartDoneEvent", "ResponseTextDeltaEvent", "ResponseTextDoneEvent",
         "ResponseReasoningTextDeltaEvent", "ResponseReasoningTextDoneEvent", "ResponseFunctionCallArgumentsDeltaEvent",
         "ResponseFunctionCallArgumentsDoneEvent", "ResponseCompletedEvent", "ResponseIncompleteEvent"]
TEXT = {"description", "example", "examples", "title", "externalDocs"}


def trimmed(node, inside_names=False):
    if isinstance(node, list):
        return [trimmed(n) for n in node]
    if not isinstance(node, dict):
        return node
    # The names of properties are no keywords.
    result = {k: trimmed(v, k in ("properties", "$defs") and not inside_names) for k, v in node.items()
              if inside_names or not (k in TEXT or k == "nullable" or k.startswith("x-"))}
    # OpenAPI 3.0's word, which 3.1 does not know any more.
    return {"anyOf": [result, {"type": "null"}]} if node.get("nullable") is True and not inside_names else result


def references(node):
    if isinstance(node, list):
        for n in node:
            yield from references(n)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rsplit("/", 1)[1]
        for value in node.values():
            yield from references(value)


document = json.load(open(sys.argv[1]))
schemas, kept, open_names = document["components"]["schemas"], {}, list(ROOTS)
while open_names:
    name = open_names.pop()
    if name not in kept:
        kept[name] = trimmed(schemas[name])
        open_names += references(kept[name])
head = {"license": "MIT", "copyright": "OpenAI (https://openai.com)",
        "from": "https://github.com/openai/openai-openapi", "version": document["info"]["version"]}
lines = [f"{json.dumps(name)}:{json.dumps(kept[name], separators=(',', ':'))}" for name in sorted(kept)]
print('{"info":' + json.dumps(head) + ',"components":{"schemas":{\n' + ",\n".join(lines) + "\n}}}")
