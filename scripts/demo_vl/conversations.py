"""Batches of conversations about scenes, as arrays that the trainer takes."""
import numpy as np
from scenes import COLOUR_NAMES, KINDS, SHAPE_NAMES, SIZES, WORDS, ask, draw_scene, make_scene

MOST_PICTURES = 1.25  # of a batch, for each conversation
N_THINGS = 1 + len(SHAPE_NAMES) * len(COLOUR_NAMES) + len(WORDS)
HOW_OFTEN = dict(count=30, colour=9, shape=9, position=16, exists=10, relation=12, word=22, background=3)
TALK = [
    ("Hello!", "Hello! Show me a picture of shapes and ask about it."),
    ("Hi", "Hi! Show me a picture of shapes and ask about it."),
    ("Who are you?", "I am a very small vision model. I was trained on drawn scenes, to show that this engine works."),
    ("What can you do?", "I can count shapes, name their colours and places, and read a word in a drawn scene."),
    ("Thank you!", "You are welcome."),
    ("Bye", "Goodbye!"),
]
BLIND = "I see no picture. Show me one."


def spoken(question, rng):  # as people type
    r = rng.random()
    if r < 0.1:
        question = question.lower()
    elif r < 0.2:
        question = question.rstrip("?.")
    return question


# What stands in the square of each thing's centre.
def things(scene):
    cols = scene["w"] // 32
    row = np.zeros(cols * (scene["h"] // 32), np.int64)
    for i in scene["items"]:
        thing = (
            1 + len(SHAPE_NAMES) * len(COLOUR_NAMES) + WORDS.index(i["word"])
            if "word" in i
            else 1 + SHAPE_NAMES.index(i["shape"]) * len(COLOUR_NAMES) + COLOUR_NAMES.index(i["colour"])
        )
        row[i["y"] // 32 * cols + i["x"] // 32] = thing
    return row


class Maker:
    def __init__(s, tok, n_tokens):
        s.tok, s.n_tokens = tok, n_tokens

    # (ids, is the token's prediction trained, scenes, index of each scene's first place)
    def conversation(s, rng, size, kind=None):
        tok, sp = s.tok, s.tok.special
        n_places = size[0] * size[1]
        ids, answers, scenes, firsts = [], [], [], []

        def add(more, is_answer=False):
            ids.extend(more)
            answers.extend([is_answer] * len(more))

        start, end, newline = sp["<|im_start|>"], sp["<|im_end|>"], tok.encode("\n")

        def turn(question, answer, scene=None):
            kept = len(ids), len(scenes)
            q = tok.encode(question)
            add([start] + tok.encode("user\n"))
            picture_last = scene is not None and rng.random() < 0.2
            if picture_last:
                add(q)
            if scene is not None:
                add([sp["<|vision_start|>"]])
                scenes.append(scene)
                firsts.append(len(ids))
                add([sp["<|image_pad|>"]] * n_places + [sp["<|vision_end|>"]])
            if not picture_last:
                add(q)
            add([end] + newline + [start] + tok.encode("assistant\n"))
            add(tok.encode(answer) + [end], True)
            add(newline)
            if len(ids) <= s.n_tokens:
                return True
            for grown, n in ((ids, kept[0]), (answers, kept[0]), (scenes, kept[1]), (firsts, kept[1])):
                del grown[n:]
            return False

        if kind is None and rng.random() < 0.05:
            add(
                [start]
                + tok.encode(
                    "system\n" + rng.choice(["You are a helpful assistant.", "Answer questions about the picture.", "Be brief."])
                )
                + [end]
                + newline
            )
        scene = make_scene(rng, size)
        if kind is not None:
            pair = ask(scene, rng, kind)
            while pair is None:
                scene = make_scene(rng, size)
                pair = ask(scene, rng, kind)
            turn(*pair, scene)
            return ids, answers, scenes, firsts
        blind = rng.random() < 0.03
        shown, n = blind, 0
        describe_at = rng.randrange(1, 6) if rng.random() < 0.4 else 0 if rng.random() < 0.5 else -1
        while True:
            n += 1
            if rng.random() < (0.3 if blind else 0.01):
                if not turn(*rng.choice(TALK)):
                    break
                continue
            if shown and not blind and len(scenes) < 2 and rng.random() < 0.02:
                scene, shown = make_scene(rng, size), False
            k = "describe" if n - 1 == describe_at else rng.choices(list(HOW_OFTEN), list(HOW_OFTEN.values()))[0]
            pair = ask(scene, rng, k)
            if pair is None:
                continue
            if not turn(spoken(pair[0], rng), BLIND if blind else pair[1], None if shown else scene):
                break
            shown = True
        return ids, answers, scenes, firsts

    def batch(s, rng, n, kind=None, size=None):
        size = size or rng.choice(SIZES)
        ids, positions = np.zeros((n, s.n_tokens), np.int32), np.zeros((3, n, s.n_tokens), np.int32)
        where, target, places, images, marks = [], [], [], [], []
        for row in range(n):
            one, answers, scenes, firsts = s.conversation(rng, size, kind)
            ids[row, : len(one)] = one
            for i in range(1, len(one)):
                if answers[i]:
                    where.append(row * s.n_tokens + i - 1)
                    target.append(one[i])
            at, next_position = 0, 0
            p, n_places = positions[:, row], size[0] * size[1]
            for scene, first in zip(scenes, firsts):
                p[:, at:first] = np.arange(next_position, next_position + first - at)
                next_position += first - at
                k = np.arange(n_places)
                p[0, first : first + n_places] = next_position
                p[1, first : first + n_places] = next_position + k // size[0]
                p[2, first : first + n_places] = next_position + k % size[0]
                next_position += max(size)
                at = first + n_places
                places.append(row * s.n_tokens + first + k)
                images.append(draw_scene(scene, rng))
                marks.append(things(scene))
            p[:, at:] = np.arange(next_position, next_position + s.n_tokens - at)
        return dict(
            ids=ids,
            positions=positions,
            where=np.array(where, np.int32),
            target=np.array(target, np.int32),
            places=np.concatenate(places).astype(np.int32),
            images=np.stack(images),
            marks=np.stack(marks).astype(np.int32),
        )
