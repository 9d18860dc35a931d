#!/usr/bin/env python3
"""Asks a served model about scenes that it never saw, and says by kind of question how many answers are right, word for word.

usage: smelt serve models/demo-vl --port 8080 &  evaluate.py [URL] [QUESTIONS_OF_A_KIND] [SEED]
"""
import base64, io, json, random, sys, urllib.request
from concurrent.futures import ThreadPoolExecutor
from PIL import Image
from scenes import KINDS, ask, draw_scene, make_scene

url, n, seed = [*sys.argv[1:], *["http://127.0.0.1:8080", "100", "evaluate"][len(sys.argv) - 1 :]]


def is_right(kind, i):
    rng = random.Random(f"{seed} {kind} {i}")
    pair = None
    while pair is None:
        scene = make_scene(rng)
        pair = ask(scene, rng, kind)
    file = io.BytesIO()
    Image.fromarray(draw_scene(scene, rng, rng.choice([1, 2]))).save(file, "png")
    picture = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    body = dict(
        temperature=0,
        max_tokens=120,
        messages=[
            dict(role="user", content=[dict(type="image_url", image_url=dict(url=picture)), dict(type="text", text=pair[0])])
        ],
    )
    request = urllib.request.Request(
        url + "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    return json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"] == pair[1]


with ThreadPoolExecutor(4) as pool:
    for kind in KINDS:
        right = sum(pool.map(lambda i: is_right(kind, i), range(int(n))))
        print(f"{kind:12}{right:6} of {n}")
