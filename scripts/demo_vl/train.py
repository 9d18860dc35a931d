#!/usr/bin/env python3
"""Trains models/demo-vl on drawn scenes: in minutes on one GPU. Writes a Hugging Face folder.

usage: train.py OUT_DIR [--seconds S] [--compile] [--start FOLDER]
--start goes on from the weights of an earlier OUT_DIR. --tiny makes three steps, to try the script on a CPU.
Needs PyTorch, numpy, Pillow and the DejaVu fonts; with transformers it also writes golden.safetensors.
"""
import argparse, json, math, mmap, os, queue, random, struct, sys, threading, time
import multiprocessing as mp
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from conversations import BLIND, N_THINGS, TALK, Maker
from scenes import KINDS, SIZES, ask, make_scene
from tokenizer import SPECIAL, Tokenizer

ap = argparse.ArgumentParser()
ap.add_argument("out")
ap.add_argument("--seconds", type=float, default=240)
ap.add_argument("--batch", type=int, default=512)
ap.add_argument("--tokens", type=int, default=192)
ap.add_argument("--workers", type=int, default=15)
ap.add_argument("--peak", type=float, default=1.5e-3)
ap.add_argument("--eval", type=int, default=512)
ap.add_argument("--compile", action="store_true")
ap.add_argument("--tiny", action="store_true")
ap.add_argument("--start")
a = ap.parse_args()
here, t_start = os.path.dirname(os.path.abspath(__file__)), time.time()


def log(*x):
    print(f"[{time.time()-t_start:6.1f}s]", *x, flush=True)


# ---------------------------------------------------------------- batches from other processes, through shared memory
class Slots:
    def __init__(s, n, n_bytes):
        s.memory = [mmap.mmap(-1, n_bytes) for _ in range(n)]
        s.free, s.full = mp.Queue(), mp.Queue()
        for i in range(n):
            s.free.put(i)

    def work(s, seed, maker):
        rng = random.Random(f"train {seed}")
        while True:
            batch = maker.batch(rng, a.batch)
            i, at, table = s.free.get(), 0, []
            for name, v in batch.items():
                raw = v.tobytes()
                s.memory[i][at : at + len(raw)] = raw
                table.append((name, v.dtype.str, v.shape, at))
                at += (len(raw) + 63) // 64 * 64
            s.full.put((i, table))

    def take(s, to):
        i, table = s.full.get()
        batch = {
            name: torch.from_numpy(np.frombuffer(s.memory[i], dtype, int(np.prod(shape)), at).reshape(shape)).to(to, copy=True)
            for name, dtype, shape, at in table
        }
        s.free.put(i)
        return batch


def some_texts(n):
    rng = random.Random("texts")
    for _ in range(n):
        scene = make_scene(rng)
        for kind in KINDS:
            if (pair := ask(scene, rng, kind)) is not None:
                yield from pair
                yield pair[0].lower()
    for _ in range(n // 20):
        for pair in TALK:
            yield from pair
        yield BLIND + " user\nassistant\nsystem\n You are a helpful assistant. Answer questions about the picture. Be brief."


tok = Tokenizer(some_texts(300 if a.tiny else 4000), 1024)
maker = Maker(tok, a.tokens)
slots = Slots(6 if a.tiny else 48, int(a.batch * 1.3 * 128 * 256 * 3 * 1.2) + (1 << 22))
workers = [mp.Process(target=slots.work, args=(i, maker), daemon=True) for i in range(a.workers)]
for w in workers:
    w.start()

import torch, torch.nn.functional as F
from model import TEXT, VISION, Model

log("tokenizer", tok.size, "torch", torch.__version__)
dev = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
torch.backends.cuda.matmul.allow_tf32 = False
net = Model(tok.size).to(dev)
if a.start:
    with open(os.path.join(a.start, "model.safetensors"), "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        first = f.tell()
        header.pop("__metadata__")
        for name, p in net.named_parameters():
            begin, end = header["model." + name]["data_offsets"]
            f.seek(first + begin)
            p.data = torch.frombuffer(bytearray(f.read(end - begin)), dtype=torch.bfloat16).view(p.shape).float().to(dev)
n_parameters = sum(p.numel() for p in net.parameters())
things = torch.nn.Linear(TEXT["hidden"], N_THINGS).to(dev)  # helps the tower to see early; not kept
log(f"{n_parameters/1e6:.2f}M parameters, vocabulary {tok.size}")
if a.compile:
    for part in (*net.visual.blocks, *net.language_model.layers):
        part.compile()


def losses(b, aux):
    x, feats = net(b["ids"].long(), b["positions"].long(), b["images"], b["places"].long())
    loss = F.cross_entropy(net.logits(x.reshape(-1, x.shape[-1])[b["where"].long()]).float(), b["target"].long())
    seen = F.cross_entropy(things(feats).float().flatten(0, 1), b["marks"].long().flatten()) if aux else loss * 0
    return loss, seen


def train():
    ps = [*net.parameters(), *things.parameters()]
    opt = torch.optim.AdamW(
        [
            dict(params=[p for p in ps if p.dim() > 1], weight_decay=0.05),
            dict(params=[p for p in ps if p.dim() <= 1], weight_decay=0.0),
        ],
        lr=1,
        betas=(0.9, 0.95),
        **(dict(fused=True) if dev == "cuda" else {}),
    )
    ready = queue.Queue(8)

    def feed():
        if dev == "cpu":
            while True:
                ready.put(slots.take(dev))
        side = torch.cuda.Stream()  # copies do not wait for steps
        while True:
            with torch.cuda.stream(side):
                b = slots.take(dev)
            side.synchronize()
            for t in b.values():
                t.record_stream(torch.cuda.default_stream())
            ready.put(b)

    threading.Thread(target=feed, daemon=True).start()
    step, fresh, t0, began, kept = 0, 0, None, time.time(), []
    shown, shown_at = 0, began
    while True:
        # A batch may be seen again where scenes come slower than steps.
        if ready.empty() and len(kept) == 24:
            b = random.choice(kept)
        else:
            b = ready.get()
            fresh += 1
            kept = kept[-23:] + [b]
        part = 0 if t0 is None else (time.time() - t0) / a.seconds
        if part >= 1 or (a.tiny and step == 3):
            break
        lr = a.peak * min(1, (step + 1) / 300) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))
        for g in opt.param_groups:
            g["lr"] = lr
        with torch.autocast(dev, dtype=torch.bfloat16, enabled=dev == "cuda"):
            loss, seen = losses(b, part < 0.7)
        (loss + 0.5 * max(0, 1 - part / 0.7) * seen).backward()
        torch.nn.utils.clip_grad_norm_(ps, 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step += 1
        if t0 is None and step >= 40:
            t0 = time.time()  # compiled, and scenes are coming
        if step % 200 == 0 or step in (1, 40) or a.tiny:
            log(
                "step",
                step,
                "loss",
                round(loss.item(), 4),
                "things",
                round(seen.item(), 4),
                "lr",
                f"{lr:.2e}",
                "step/s",
                round((step - shown) / (time.time() - shown_at), 1),
                "fresh",
                round(fresh / step, 2),
            )
            shown, shown_at = step, time.time()
    for w in workers:
        w.terminate()
    return dict(steps=step, scenes=fresh * a.batch, seconds=round(time.time() - began))


# Every token of the answer has to be the likeliest: then the greedy answer is this one.
@torch.no_grad()
def evaluate():
    rng, result = random.Random("held out"), {}
    for kind in KINDS:
        right = total = 0
        for size in dict.fromkeys(SIZES):
            n = max(1, a.eval // len(set(SIZES)))
            b = {k: torch.from_numpy(v).to(dev) for k, v in maker.batch(rng, n, kind, size).items()}
            x, _ = net(b["ids"].long(), b["positions"].long(), b["images"], b["places"].long())
            good = net.logits(x.reshape(-1, x.shape[-1])[b["where"].long()]).argmax(-1) == b["target"].long()
            rows = b["where"].long() // a.tokens
            wrong = torch.zeros(n, device=dev).index_add(0, rows, (~good).float())
            right += int((wrong == 0).sum())
            total += n
        result[kind] = right / total
    return result


def save(folder, about):
    os.makedirs(folder, exist_ok=True)
    ids, template = tok.special, open(os.path.join(here, "chat_template.jinja")).read()
    tensors = {"model." + k: v.to(torch.bfloat16).cpu().contiguous() for k, v in net.state_dict().items()}
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for k, v in tensors.items():
        header[k] = dict(dtype="BF16", shape=list(v.shape), data_offsets=[at, at + 2 * v.numel()])
        at += 2 * v.numel()
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(raw)) + raw)
        for v in tensors.values():
            f.write(v.view(torch.int16).numpy().tobytes())

    def put(name, value):
        with open(os.path.join(folder, name), "w") as f:
            json.dump(value, f, indent=2)
            f.write("\n")

    t, v = TEXT, VISION
    put(
        "config.json",
        dict(
            architectures=["Qwen3VLForConditionalGeneration"],
            model_type="qwen3_vl",
            dtype="bfloat16",
            tie_word_embeddings=True,
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
            text_config=dict(
                model_type="qwen3_vl_text",
                attention_bias=False,
                attention_dropout=0.0,
                bos_token_id=ids["<|endoftext|>"],
                eos_token_id=ids["<|im_end|>"],
                head_dim=t["head_dim"],
                hidden_act="silu",
                hidden_size=t["hidden"],
                initializer_range=0.02,
                intermediate_size=t["ffn"],
                max_position_embeddings=1024,
                num_attention_heads=t["heads"],
                num_hidden_layers=t["layers"],
                num_key_value_heads=t["kv_heads"],
                pad_token_id=ids["<|endoftext|>"],
                rms_norm_eps=1e-6,
                rope_parameters=dict(
                    rope_type="default", rope_theta=t["theta"], mrope_interleaved=True, mrope_section=list(t["sections"])
                ),
                tie_word_embeddings=True,
                use_cache=True,
                vocab_size=tok.size,
            ),
            vision_config=dict(
                model_type="qwen3_vl_vision",
                deepstack_visual_indexes=list(v["deep"]),
                depth=v["layers"],
                hidden_act="gelu_pytorch_tanh",
                hidden_size=v["hidden"],
                in_channels=3,
                initializer_range=0.02,
                intermediate_size=v["ffn"],
                num_heads=v["heads"],
                num_position_embeddings=v["side"] ** 2,
                out_hidden_size=t["hidden"],
                patch_size=16,
                spatial_merge_size=2,
                temporal_patch_size=2,
            ),
        ),
    )
    put(
        "preprocessor_config.json",
        dict(
            image_processor_type="Qwen2VLImageProcessor",
            do_convert_rgb=True,
            do_normalize=True,
            do_rescale=True,
            do_resize=True,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
            merge_size=2,
            patch_size=16,
            temporal_patch_size=2,
            resample=3,
            rescale_factor=1 / 255,
            size=dict(shortest_edge=24576, longest_edge=36864),
        ),
    )
    put(
        "generation_config.json",
        dict(
            bos_token_id=ids["<|endoftext|>"],
            eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]],
            pad_token_id=ids["<|endoftext|>"],
            do_sample=False,
        ),
    )
    tok.save(os.path.join(folder, "tokenizer.json"))
    put(
        "tokenizer_config.json",
        dict(
            tokenizer_class="Qwen2Tokenizer",
            add_bos_token=False,
            add_prefix_space=False,
            bos_token=None,
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            unk_token=None,
            clean_up_tokenization_spaces=False,
            errors="replace",
            model_max_length=1024,
            split_special_tokens=False,
            additional_special_tokens=SPECIAL[1:],
            added_tokens_decoder={
                str(i): dict(content=k, lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
                for k, i in ids.items()
            },
            chat_template=template,
        ),
    )
    put("training.json", about)


# The same weights in transformers: what it computes is the golden of smelt's tests.
@torch.no_grad()
def compare(folder):
    from PIL import Image
    from transformers import Qwen3VLForConditionalGeneration

    ref = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    own = Model(tok.size)
    own.load_state_dict(net.state_dict())
    log("loaded into transformers")
    rng, out = random.Random("golden"), {}
    for k, (kind, size) in enumerate([("describe", (6, 6)), ("count", (7, 4)), ("word", (5, 6))]):
        b = {n: torch.from_numpy(v) for n, v in maker.batch(rng, 1, kind, size).items()}
        n_prompt = int(b["where"][0]) + 1
        h, w = b["images"].shape[1:3]
        x = (b["images"][0].float() / 255 - 0.5) / 0.5
        x = (
            x.view(h // 32, 2, 16, w // 32, 2, 16, 3)
            .permute(0, 3, 1, 4, 6, 2, 5)
            .reshape(h * w // 256, 3, 1, 256)
            .expand(-1, -1, 2, -1)
            .reshape(h * w // 256, -1)
        )
        ids = b["ids"][:, :n_prompt].long()
        inputs = dict(pixel_values=x, image_grid_thw=torch.tensor([[1, h // 16, w // 16]]))

        def reference(ids):
            return (
                ref(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    mm_token_type_ids=(ids == tok.special["<|image_pad|>"]).int(),
                    **inputs,
                )
                .logits[0]
                .float()
            )

        expected = reference(ids)
        y, _ = own(ids, b["positions"][:, :, :n_prompt].long(), b["images"], b["places"].long())
        log(
            "golden",
            k,
            kind,
            "worst difference",
            float((own.logits(y)[0] - expected).abs().max()),
            "of",
            float(expected.abs().max()),
        )
        greedy, last = [], expected[-1]
        while len(greedy) < 96:
            greedy.append(int(last.argmax()))
            if greedy[-1] == tok.special["<|im_end|>"]:
                break
            last = reference(torch.cat((ids, torch.tensor([greedy])), 1))[-1]
        out[f"ids_{k}"], out[f"greedy_{k}"], out[f"logits_{k}"] = ids[0].int(), torch.tensor(greedy).int(), expected[-1].clone()
        log("right answer:", greedy == b["target"].tolist())
        Image.fromarray(b["images"][0].numpy()).save(os.path.join(folder, f"golden_{k}.png"))
    from safetensors.torch import save_file

    save_file(out, os.path.join(folder, "golden.safetensors"))


about = train()
for p in net.parameters():
    p.data = p.data.to(torch.bfloat16).float()
net.eval()
save(a.out, about)
about.update(parameters=n_parameters, right=evaluate())
log(about)
save(a.out, about)
try:
    compare(a.out)
except Exception as e:
    import traceback

    traceback.print_exc()
os._exit(0)
