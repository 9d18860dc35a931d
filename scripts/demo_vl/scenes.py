#!/usr/bin/env python3
"""Draws scenes and asks about them: the only data of models/demo-vl, and its test.

usage: scenes.py OUT_DIR [N] [SEED]   writes N scenes as PNG and questions.jsonl, one question a line
Needs Pillow, numpy and the DejaVu fonts.
"""
import functools, glob, json, math, os, random, sys
import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = {
    "red": [(255, 0, 0), (210, 40, 40)],
    "green": [(0, 128, 0), (50, 190, 70)],
    "blue": [(0, 0, 255), (50, 100, 220)],
    "yellow": [(255, 255, 0), (240, 210, 40)],
    "orange": [(255, 165, 0), (245, 125, 30)],
    "purple": [(128, 0, 128), (160, 70, 200)],
    "black": [(0, 0, 0), (35, 35, 35)],
    "white": [(255, 255, 255), (240, 240, 240)],
}
GROUNDS = {
    "white": COLOURS["white"],
    "black": COLOURS["black"],
    "grey": [(128, 128, 128), (170, 170, 170)],
    "pink": [(255, 192, 203), (250, 170, 200)],
}
SHAPES = {
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "star": "stars",
    "cross": "crosses",
    "heart": "hearts",
    "ring": "rings",
}
WORDS = """apple bird book box bread bus cake car cat chair clock cloud coat corn cow cup day desk dog door duck egg
fish flag fork frog game goat hand hat home horse house ice jam key king lake lamp leaf lion milk moon mouse music night
open owl paper park pear pen pig plane queen rain river road rose salt sand sea sheep ship shoe shop snow soup spoon stone
stop sugar sun table tea tiger time tree truck wall water wind wolf wood zebra""".split()
PLACES = [
    "top left",
    "top middle",
    "top right",
    "middle left",
    "middle",
    "middle right",
    "bottom left",
    "bottom middle",
    "bottom right",
]
# Widths and heights in squares of 32 pixels: what pictures of common shapes are resized to.
SIZES = [(6, 6), (6, 6), (6, 6), (5, 5), (6, 5), (5, 6), (7, 5), (5, 7), (7, 4), (4, 7), (8, 4), (4, 8)]
COLOUR_NAMES, SHAPE_NAMES = list(COLOURS), list(SHAPES)


def article(word):
    return "an" if word[0] in "aeiou" else "a"


# ---------------------------------------------------------------- scenes
# A scene: size in pixels, ground, items. An item: cell of nine, centre, colour, and a shape with its radius or a word.
def make_scene(rng, size=None):
    w, h = size or rng.choice(SIZES)
    w, h = 32 * w, 32 * h
    ground = rng.choice(["white", "white", "white", "black", "grey", "pink"])
    few = rng.random() < 0.7  # few colours and shapes, so that there is something to count
    colours = [c for c in COLOUR_NAMES if c != ground]
    colours = rng.sample(colours, rng.randint(1, 3) if few else len(colours))
    shapes = rng.sample(SHAPE_NAMES, rng.randint(1, 3) if few else len(SHAPE_NAMES))
    n = rng.choice([1, 2, 3, 3, 4, 4, 5, 5, 6, 7])
    words = rng.random() < 0.5
    cells = sorted(rng.sample(range(9), n + words))
    the_word = rng.choice(cells) if words else -1
    cell_w, cell_h = w / 3, h / 3
    items = []
    for cell in cells:
        cx, cy = (cell % 3 + 0.5) * cell_w, (cell // 3 + 0.5) * cell_h
        if cell == the_word:
            colour = rng.choice([c for c in COLOUR_NAMES if c != ground and (ground != "white" or c != "yellow")])
            text = rng.choice(WORDS)
            item = dict(
                cell=cell,
                word=text,
                colour=colour,
                drawn=rng.choice([text, text.upper(), text.capitalize()]),
                font=rng.randrange(len(fonts())),
                points=rng.randint(15, 22),
            )
            spread = 0.06
        else:
            item = dict(
                cell=cell,
                shape=rng.choice(shapes),
                colour=rng.choice(colours),
                radius=round(rng.uniform(0.25, 0.42) * min(cell_w, cell_h)),
                turn=rng.randrange(-2, 3),
            )
            spread = 0.12
        item["x"], item["y"] = round(cx + rng.uniform(-spread, spread) * cell_w), round(
            cy + rng.uniform(-spread, spread) * cell_h
        )
        items.append(item)
    return dict(w=w, h=h, ground=ground, items=items)


@functools.lru_cache(None)
def fonts():
    wanted = ["DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono-Bold.ttf"]
    folders = ["/usr/share/fonts/truetype/dejavu"]
    try:
        import matplotlib

        folders.append(os.path.join(matplotlib.get_data_path(), "fonts/ttf"))
    except ImportError:
        pass
    for folder in folders:
        found = [os.path.join(folder, f) for f in wanted if os.path.exists(os.path.join(folder, f))]
        if len(found) == len(wanted):
            return found
    sys.exit("scenes.py: no DejaVu fonts in " + " or ".join(folders))


# How much of each pixel is covered, 0 to 1: drawn four times as large.
@functools.lru_cache(None)
def shape_mask(shape, r, turn):
    k, side = 4, 2 * r + 4
    image = Image.new("L", (k * side, k * side))
    draw, c, q = ImageDraw.Draw(image), k * side / 2, k * r
    a0 = turn * math.pi / 20

    def turned(points):
        return [(c + x * math.cos(a0) - y * math.sin(a0), c + x * math.sin(a0) + y * math.cos(a0)) for x, y in points]

    if shape in ("circle", "ring"):
        draw.ellipse([c - q, c - q, c + q, c + q], fill=255)
        if shape == "ring":
            draw.ellipse([c - 0.55 * q, c - 0.55 * q, c + 0.55 * q, c + 0.55 * q], fill=0)
    elif shape == "square":
        s = 0.82 * q
        draw.polygon(turned([(-s, -s), (s, -s), (s, s), (-s, s)]), fill=255)
    elif shape == "triangle":
        draw.polygon(
            turned([(q * math.sin(i * 2 * math.pi / 3), -q * math.cos(i * 2 * math.pi / 3)) for i in range(3)]), fill=255
        )
    elif shape == "star":
        draw.polygon(
            turned(
                [
                    (q * (1, 0.42)[i % 2] * math.sin(i * math.pi / 5), -q * (1, 0.42)[i % 2] * math.cos(i * math.pi / 5))
                    for i in range(10)
                ]
            ),
            fill=255,
        )
    elif shape == "cross":
        a, b = 0.3 * q, 0.95 * q
        draw.polygon(
            turned([(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]),
            fill=255,
        )
    else:  # heart
        curve = []
        for i in range(64):
            t = i * math.pi / 32
            x, y = 16 * math.sin(t) ** 3, 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
            curve.append((x * q / 17, -(y + 2.5) * q / 17))
        draw.polygon(turned(curve), fill=255)
    return np.asarray(image.reduce(k), dtype=np.float32)[:, :, None] / 255


@functools.lru_cache(None)
def word_mask(text, font, points, scale):
    f = ImageFont.truetype(fonts()[font], points * scale)
    box = f.getbbox(text)
    image = Image.new("L", (box[2] - box[0] + 2, box[3] - box[1] + 2))
    ImageDraw.Draw(image).text((1 - box[0], 1 - box[1]), text, font=f, fill=255)
    return np.asarray(image, dtype=np.float32)[:, :, None] / 255


def draw_scene(scene, rng, scale=1):
    def shade(anchors):
        a, b, t = *anchors, rng.random()
        return np.array([min(255, max(0, x + (y - x) * t + rng.uniform(-8, 8))) for x, y in zip(a, b)], dtype=np.float32)

    w, h = scene["w"] * scale, scene["h"] * scale
    image = np.empty((h, w, 3), dtype=np.float32)
    image[:] = shade(GROUNDS[scene["ground"]])
    for item in scene["items"]:
        if "word" in item:
            mask = word_mask(item["drawn"], item["font"], item["points"], scale)
        else:
            mask = shape_mask(item["shape"], item["radius"] * scale, item["turn"])
        mh, mw = mask.shape[:2]
        x, y = item["x"] * scale - mw // 2, item["y"] * scale - mh // 2
        x, y = max(0, min(x, w - mw)), max(0, min(y, h - mh))
        mask = mask[:h, :w]
        at = image[y : y + mh, x : x + mw]
        at += mask * (shade(COLOURS[item["colour"]]) - at)
    return (image + 0.5).astype(np.uint8)


# ---------------------------------------------------------------- questions: each gives (question, answer) or None
def shapes_of(scene):
    return [i for i in scene["items"] if "shape" in i]


def word_of(scene):
    return next((i for i in scene["items"] if "word" in i), None)


def named(item):
    return f"{item['colour']} {item['shape']}" if "shape" in item else f"word \"{item['word']}\""


def unique(scene):
    items = shapes_of(scene)
    return [i for i in items if sum(named(j) == named(i) for j in items) == 1]


def count(scene, rng):
    items, r = shapes_of(scene), rng.random()
    some = rng.choice(items)
    colour, shape = some["colour"], some["shape"]
    if rng.random() < 0.25:
        colour = rng.choice(COLOUR_NAMES)
    if rng.random() < 0.25:
        shape = rng.choice(SHAPE_NAMES)
    if r < 0.5:
        one, many = f"{colour} {shape}", f"{colour} {SHAPES[shape]}"
    elif r < 0.7:
        one, many, colour = shape, SHAPES[shape], None
    else:
        one = rng.choice(["shape", "object"])
        if r < 0.9:
            one = f"{colour} {one}"
        else:
            colour = None
        shape, many = None, one + "s"
    n = sum((colour is None or i["colour"] == colour) and (shape is None or i["shape"] == shape) for i in items)
    question = rng.choice(
        [
            "How many {} are there?",
            "How many {} are there?",
            "How many {} do you see?",
            "How many {} are in the picture?",
            "Count the {}.",
        ]
    ).format(many)
    return question, f"There is 1 {one}." if n == 1 else f"There are {n or 'no'} {many}."


def colour(scene, rng):
    spelling = rng.choice(["colour", "color"])
    singles = [i for i in shapes_of(scene) if sum(j["shape"] == i["shape"] for j in shapes_of(scene)) == 1]
    if singles and rng.random() < 0.6:
        item = rng.choice(singles)
        return f"What {spelling} is the {item['shape']}?", f"The {item['shape']} is {item['colour']}."
    item = rng.choice(shapes_of(scene))
    what = f"{rng.choice([item['shape'], 'shape', 'object'])} in the {PLACES[item['cell']]}"
    return f"What {spelling} is the {what}?", f"The {what} is {item['colour']}."


def shape(scene, rng):
    singles = [i for i in shapes_of(scene) if sum(j["colour"] == i["colour"] for j in shapes_of(scene)) == 1]
    if singles and rng.random() < 0.6:
        item = rng.choice(singles)
        what = f"the {item['colour']} {rng.choice(['shape', 'object', 'thing'])}"
    else:
        item = rng.choice(shapes_of(scene))
        what = f"the {rng.choice(['shape', 'object', 'thing'])} in the {PLACES[item['cell']]}"
    return rng.choice([f"What shape is {what}?", f"What is {what}?"]), f"It is a {item['shape']}."


def position(scene, rng):
    word = word_of(scene)
    if word and rng.random() < 0.15:
        return "Where is the word?", f"The word is in the {PLACES[word['cell']]}."
    one = unique(scene)
    if one and rng.random() < 0.6:
        item = rng.choice(one)
        return f"Where is the {named(item)}?", f"The {named(item)} is in the {PLACES[item['cell']]}."
    cell = rng.choice([i["cell"] for i in scene["items"]]) if rng.random() < 0.7 else rng.randrange(9)
    item = next((i for i in scene["items"] if i["cell"] == cell), None)
    if item is None:
        answer = "Nothing."
    elif "word" in item:
        answer = f"The {named(item)}."
    else:
        answer = f"{article(item['colour']).capitalize()} {named(item)}."
    return f"What is in the {PLACES[cell]}?", answer


def exists(scene, rng):
    items = shapes_of(scene)
    present = {(i["colour"], i["shape"]) for i in items}
    if rng.random() < 0.5:
        c, s = rng.choice(sorted(present))
    else:
        c, s = rng.choice(items)["colour"], rng.choice(items)["shape"]
        while (c, s) in present:
            if rng.random() < 0.5:
                c = rng.choice(COLOUR_NAMES)
            else:
                s = rng.choice(SHAPE_NAMES)
    question = rng.choice(
        [f"Is there {article(c)} {c} {s}?", f"Do you see {article(c)} {c} {s}?", f"Are there any {c} {SHAPES[s]}?"]
    )
    return question, "Yes." if (c, s) in present else "No."


def relation(scene, rng):
    one = unique(scene)
    if len(one) < 2:
        return None
    a, b = rng.sample(one, 2)
    dx, dy = a["cell"] % 3 - b["cell"] % 3, a["cell"] // 3 - b["cell"] // 3
    ways = ([("left of", dx < 0), ("right of", dx > 0)] if dx else []) + ([("above", dy < 0), ("below", dy > 0)] if dy else [])
    way, holds = rng.choice(ways)
    return f"Is the {named(a)} {way} the {named(b)}?", "Yes." if holds else "No."


def word(scene, rng):
    item = word_of(scene)
    question = rng.choice(
        [
            "What word is written in the picture?",
            "What word is there?",
            "Which word do you see?",
            "What does the text say?",
            "Read the word.",
        ]
    )
    if item is None:
        if rng.random() < 0.2:
            return question, "There is no word."
        return None
    if rng.random() < 0.1:
        return f"What {rng.choice(['colour', 'color'])} is the word?", f"The word is {item['colour']}."
    return question, f"The word is \"{item['word']}\"."


def ground(scene, rng):
    return f"What {rng.choice(['colour', 'color'])} is the background?", f"The background is {scene['ground']}."


def describe(scene, rng):
    parts = [f"{'the' if 'word' in i else article(i['colour'])} {named(i)} in the {PLACES[i['cell']]}" for i in scene["items"]]
    text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    question = rng.choice(
        [
            "Describe the picture.",
            "What do you see?",
            "What is in the picture?",
            "Describe this image.",
            "What does the picture show?",
        ]
    )
    return question, f"{text[0].upper()}{text[1:]}, on a {scene['ground']} background."


KINDS = dict(
    count=count,
    colour=colour,
    shape=shape,
    position=position,
    exists=exists,
    relation=relation,
    word=word,
    background=ground,
    describe=describe,
)


def ask(scene, rng, kind):
    return KINDS[kind](scene, rng)


def main():
    out, n, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 40, int(sys.argv[3]) if len(sys.argv) > 3 else 1
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "questions.jsonl"), "w") as f:
        for i in range(n):
            rng = random.Random(f"scene {seed} {i}")
            scene, name = make_scene(rng), f"scene_{i:02}.png"
            Image.fromarray(draw_scene(scene, rng, scale=rng.choice([1, 2]))).quantize(64, dither=Image.Dither.NONE).save(
                os.path.join(out, name), optimize=True
            )
            for kind in KINDS:
                if (pair := ask(scene, rng, kind)) is not None:
                    f.write(json.dumps(dict(picture=name, kind=kind, question=pair[0], answer=pair[1])) + "\n")


if __name__ == "__main__":
    main()
