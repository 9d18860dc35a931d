"""A byte-level BPE of the words that the scenes' questions have, with Qwen's pattern and marks. Trains, encodes ASCII, and writes tokenizer.json."""
import functools, json, re
from collections import Counter

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ASCII = re.compile(
    PATTERN.replace(r"[^\r\n\p{L}\p{N}]", r"[^\r\nA-Za-z0-9]")
    .replace(r"[^\s\p{L}\p{N}]", r"[^\sA-Za-z0-9]")
    .replace(r"\p{L}", "[A-Za-z]")
    .replace(r"\p{N}", "[0-9]")
)


def byte_letters():  # GPT-2's letters for bytes
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


LETTERS = byte_letters()


class Tokenizer:
    def __init__(self, texts, size):
        words = Counter()
        for text in texts:
            words.update(ASCII.findall(text))
        pieces = {w: [LETTERS[b] for b in w.encode()] for w in words}
        self.merges = []
        while 256 + len(self.merges) + len(SPECIAL) < size:
            pairs = Counter()
            for w, n in words.items():
                for pair in zip(pieces[w], pieces[w][1:]):
                    pairs[pair] += n
            if not pairs:
                break
            best = max(pairs, key=lambda p: (pairs[p], p))
            self.merges.append(best)
            for w in words:
                pieces[w] = self.join(pieces[w], best)
        tokens = [LETTERS[b] for b in range(256)]
        for a, b in self.merges:
            if a + b not in tokens:
                tokens.append(a + b)
        self.vocab = {t: i for i, t in enumerate(tokens)}
        self.special = {t: len(tokens) + i for i, t in enumerate(SPECIAL)}
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.size = len(tokens) + len(SPECIAL)

    @staticmethod
    def join(piece, pair):
        out, i = [], 0
        while i < len(piece):
            if i + 1 < len(piece) and (piece[i], piece[i + 1]) == pair:
                out.append(piece[i] + piece[i + 1])
                i += 2
            else:
                out.append(piece[i])
                i += 1
        return out

    @functools.lru_cache(None)
    def encode_word(self, word):
        piece = [LETTERS[b] for b in word.encode()]
        while len(piece) > 1:
            best = min(zip(piece, piece[1:]), key=lambda p: self.rank.get(p, 1 << 30))
            if best not in self.rank:
                break
            piece = self.join(piece, best)
        return [self.vocab[t] for t in piece]

    def encode(self, text):
        return [i for w in ASCII.findall(text) for i in self.encode_word(w)]

    def save(self, path):
        added = [
            dict(id=i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
            for t, i in self.special.items()
        ]
        pre = [
            dict(type="Split", pattern=dict(Regex=PATTERN), behavior="Isolated", invert=False),
            dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False),
        ]
        model = dict(
            type="BPE",
            dropout=None,
            unk_token=None,
            continuing_subword_prefix=None,
            end_of_word_suffix=None,
            fuse_unk=False,
            byte_fallback=False,
            ignore_merges=False,
            vocab=self.vocab,
            merges=[list(m) for m in self.merges],
        )
        whole = dict(
            version="1.0",
            truncation=None,
            padding=None,
            added_tokens=added,
            normalizer=dict(type="NFC"),
            pre_tokenizer=dict(type="Sequence", pretokenizers=pre),
            post_processor=None,
            decoder=dict(type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True),
            model=model,
        )
        with open(path, "w") as f:
            json.dump(whole, f, ensure_ascii=False)
