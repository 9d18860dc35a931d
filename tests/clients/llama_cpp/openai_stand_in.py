"""What llama.cpp's suite calls of OpenAI's Python client, over requests: no more."""
import json

import requests


class Answer:
    """An object of an answer; what it does not have is None."""

    def __init__(self, members):
        self.__dict__.update({name: wrap(value) for name, value in members.items()})

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "output_text":
            parts = [part for item in self.output if item.type == "message" for part in item.content]
            return "".join(part.text for part in parts if part.type == "output_text")
        return None


def wrap(value):
    if isinstance(value, dict):
        return Answer(value)
    return [wrap(v) for v in value] if isinstance(value, list) else value


class Error(Exception):
    pass


class Route:
    def __init__(self, client, path):
        self.client, self.path = client, path

    def request(self, method, body=None):
        headers = {"Authorization": "Bearer " + self.client.key}
        streams = body is not None and bool(body.get("stream"))
        answer = requests.request(method, self.client.base + self.path, json=body, headers=headers, stream=streams, timeout=600)
        if answer.status_code != 200:
            raise Error(f"{answer.status_code} {answer.text}")
        return answer

    def create(self, extra_body=None, **body):
        body.update(extra_body or {})
        answer = self.request("POST", body)
        return events(answer) if body.get("stream") else Answer(answer.json())

    def list(self):
        return Answer(self.request("GET").json())


def events(answer):
    for line in answer.iter_lines():
        if line == b"data: [DONE]":
            return
        if line.startswith(b"data: "):
            yield Answer(json.loads(line[6:]))


class Chat:
    def __init__(self, client):
        self.completions = Route(client, "/chat/completions")


class OpenAI:
    def __init__(self, api_key, base_url):
        self.key, self.base = api_key, base_url
        self.chat = Chat(self)
        self.completions = Route(self, "/completions")
        self.responses = Route(self, "/responses")
        self.embeddings = Route(self, "/embeddings")
        self.models = Route(self, "/models")
