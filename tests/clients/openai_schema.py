#!/usr/bin/env python3
"""Answers of a running server against OpenAI's published schemas. usage: openai_schema.py SCHEMAS http://127.0.0.1:PORT
Exit 77 where python3-jsonschema is not installed."""
import json
import sys
import urllib.error
import urllib.request

try:
    import jsonschema
except ImportError:
    print("python3-jsonschema is not installed: skipped")
    sys.exit(77)

schemas = json.load(open(sys.argv[1]))["components"]["schemas"]
base = sys.argv[2]
n_checked = 0


def check(value, name):
    global n_checked
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(value))
    if error is not None:
        sys.exit(f"{name}: {error.json_path}: {error.message[:600]}\n{json.dumps(value)[:2000]}")
    n_checked += 1


def ask(path, body=None, status=200):
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(base + path, data)) as answer:
            code, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        code, text = error.code, error.read().decode()
    if code != status:
        sys.exit(f"{path}: expected {status}, found {code}: {text[:500]}")
    return text


def events(text):
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


model = "demo-23m"
question = [{"role": "user", "content": "What is 12 + 30?"}]
weather = "What is the weather in Paris?"
city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
tool = {"type": "function", "function": {"name": "get_weather", "parameters": city}}
plain = {"model": model, "temperature": 0}

for more in ({"messages": question}, {"messages": question, "logprobs": True, "top_logprobs": 2, "n": 2},
             {"messages": [{"role": "user", "content": weather}], "tools": [tool]}):
    check(json.loads(ask("/v1/chat/completions", plain | more)), "CreateChatCompletionResponse")
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    for event in events(ask("/v1/chat/completions", plain | more | stream)):
        check(event, "CreateChatCompletionStreamResponse")
check(json.loads(ask("/v1/completions", plain | {"prompt": "The", "max_tokens": 4, "logprobs": 2})), "CreateCompletionResponse")
check(json.loads(ask("/v1/models")), "ListModelsResponse")
check(json.loads(ask(f"/v1/models/{model}")), "Model")
check(json.loads(ask("/v1/embeddings", {"model": model, "input": ["a", "b"]})), "CreateEmbeddingResponse")
check(json.loads(ask("/v1/chat/completions", plain | {"messages": []}, 400)), "ErrorResponse")

# Each event by the schema whose `type` it has.
by_type = {s["properties"]["type"]["enum"][0]: name for name, s in schemas.items()
           if name.startswith("Response") and name.endswith("Event") and "enum" in s.get("properties", {}).get("type", {})}
function = {"type": "function", "name": "get_weather", "parameters": city, "strict": False}
for more in ({"input": "What is 12 + 30?"}, {"input": weather, "tools": [function]}, {"input": "Hi", "max_output_tokens": 2}):
    check(json.loads(ask("/v1/responses", plain | more)), "Response")
    for event in events(ask("/v1/responses", plain | more | {"stream": True})):
        check(event, by_type[event["type"]])
print(f"{n_checked} answers and events are as OpenAI's document says")
