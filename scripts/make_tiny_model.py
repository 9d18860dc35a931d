#!/usr/bin/env python3
"""Writes a tiny random checkpoint of any architecture as a Hugging Face folder, from its config.json and a list
of its tensors. Python alone: no torch, no numpy.

usage: make_tiny_model.py OUT_DIR [--family MODEL_TYPE [--smelt PATH] | --spec FILE] [--seed N] [--dtype bf16|f32]

--family takes config and tensors from smelt's own table (`smelt inspect --family`), with tiny sizes. --spec names a
JSON file for a family that smelt does not know yet:

  {"config": {"model_type": "qwen3", "hidden_size": 64, ...},
   "tensors": {"model.embed_tokens.weight": ["vocab_size", "hidden_size"],
               "model.layers.{layer}.self_attn.q_proj.weight": ["num_attention_heads * head_dim", "hidden_size"],
               "model.layers.{layer}.mlp.experts.{expert}.up_proj.weight": ["moe_intermediate_size", "hidden_size"]}}

Sizes are sums and products of numbers and keys of the config. {layer} counts to num_hidden_layers, {expert} to
num_experts, num_local_experts or n_routed_experts. Instead of a shape there may be {"shape": [...], "layers":
"dense" or "sparse"}, where config has first_k_dense_replace; "recurrent" or "attention", where layer_types says which. Values: normal; of matrices with deviation
1 / sqrt(columns), 0.5 for embeddings, 1 + 0.2 for norms, 0.2 for biases, so that logits differ clearly and no layer
vanishes; of MXFP4 (*_blocks and *_scales) any.

CONTRIBUTING.md says how such a folder becomes a golden model.
"""
import argparse
import json
import math
import os
import random
import re
import struct
import subprocess
import sys

# By the names that smelt's tables have for sizes, and GGUF's keys.
TINY = {
    "dim": 64, "ffn_dim": 160, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16, "vocab_size": 256,
    "n_positions": 512, "context_length": 512, "n_experts": 4, "expert_count": 4, "expert_used_count": 2,
    "expert_ffn_dim": 32, "n_shared_experts": 1, "n_dense_layers": 1, "q_rank": 48, "kv_rank": 32, "nope_dim": 16,
    "rope_dim": 8, "v_dim": 16, "expert_group_count": 1, "expert_group_used_count": 1, "rope.plain_layer_interval": 2,
    "conv_kernel": 4, "lin_k_heads": 2, "lin_k_dim": 16, "lin_v_heads": 4, "lin_v_dim": 16, "shared_ffn_dim": 48,
}


def family_spec(smelt, family):
    """What `smelt inspect --family` says, with numbers for the sizes."""
    result = subprocess.run([smelt, "inspect", "--family", family], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(result.stderr.strip())
    spec = json.loads(result.stdout)
    for key, name in spec["sizes"].items():
        spec["config"][key] = TINY[name]
    spec["config"].update({"bos_token_id": 1, "eos_token_id": 2})
    return spec


def first_of(config, *keys):
    return next((config[key] for key in keys if key in config), 0)


def size(text, config):
    """The value of a sum or product of numbers and the config's keys."""
    def value(match):
        number = config.get(match.group())
        if match.group() == "head_dim" and number is None:
            number = (first_of(config, "hidden_size", "n_embd")
                      // max(first_of(config, "num_attention_heads", "n_head"), 1))
        if not isinstance(number, int) or number < 1:
            sys.exit(f"{text}: expected a number or keys of the config, {match.group()} is {number}")
        return str(number)
    numbers = re.sub(r"[A-Za-z_]\w*", value, str(text))
    if not re.fullmatch(r"[0-9+*() ]+", numbers):
        sys.exit(f"{text}: expected a sum or product")
    return eval(numbers)  # digits and operators alone


def expand(spec):
    """All tensors as (name, shape)."""
    config = spec["config"]
    n_layers = first_of(config, "num_hidden_layers", "n_layer")
    n_experts = first_of(config, "num_experts", "num_local_experts", "n_routed_experts")
    n_dense = config.get("first_k_dense_replace", 0)
    for pattern, entry in spec["tensors"].items():
        sizes, layers = (entry["shape"], entry["layers"]) if isinstance(entry, dict) else (entry, "all")
        shape = [size(s, config) for s in sizes]
        for layer in range(n_layers if "{layer}" in pattern else 1):
            if (layers == "dense" and layer >= n_dense) or (layers == "sparse" and layer < n_dense):
                continue
            recurrent = config.get("layer_types", [])[layer:layer + 1] == ["linear_attention"]
            if layers in ("recurrent", "attention") and recurrent != (layers == "recurrent"):
                continue
            for expert in range(n_experts if "{expert}" in pattern else 1):
                yield pattern.replace("{layer}", str(layer)).replace("{expert}", str(expert)), shape


def values(name, shape, rng):
    n = math.prod(shape)
    if ("norm" in name or ".ln_" in name) and not name.endswith("bias"):
        return [1 + 0.2 * rng.gauss(0, 1) for _ in range(n)]
    embedding = "embed" in name or "wte" in name or "wpe" in name
    deviation = 0.2 if len(shape) < 2 or "bias" in name else 0.5 if embedding else 1 / math.sqrt(shape[-1])
    return [rng.gauss(0, deviation) for _ in range(n)]


def parts(name, shape, dtype, rng):
    """The tensors of a file that this one is: (name, dtype, shape, bytes)."""
    if not name.endswith("_blocks"):
        yield name, dtype.upper(), shape, encode(values(name, shape, rng), dtype)
        return
    groups = shape[:-1] + [shape[-1] // 32]
    n = math.prod(groups)
    yield name, "U8", groups + [16], bytes(rng.randrange(256) for _ in range(16 * n))
    yield name.replace("_blocks", "_scales"), "U8", groups, bytes(rng.randrange(122, 125) for _ in range(n))


def encode(floats, dtype):
    data = struct.pack(f"<{len(floats)}f", *floats)
    if dtype == "f32":
        return data
    # The upper half of each float, rounded to nearest, ties to even.
    words = struct.unpack(f"<{len(floats)}I", data)
    return struct.pack(f"<{len(words)}H", *((w + 0x7FFF + (w >> 16 & 1)) >> 16 for w in words))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--family", default="qwen3")
    parser.add_argument("--smelt", default="smelt", help="the command whose tables --family reads")
    parser.add_argument("--spec")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    options = parser.parse_args()
    if options.spec:
        with open(options.spec, encoding="utf-8") as f:
            spec = json.load(f)
    else:
        spec = family_spec(options.smelt, options.family)

    rng = random.Random(options.seed)
    header, data = {"__metadata__": {"format": "pt"}}, bytearray()
    for tensor, sizes in expand(spec):
        for name, dtype, shape, part in parts(tensor, sizes, options.dtype, rng):
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
            data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    os.makedirs(options.out, exist_ok=True)
    with open(os.path.join(options.out, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    config = {**spec["config"], "torch_dtype": "bfloat16" if options.dtype == "bf16" else "float32"}
    with open(os.path.join(options.out, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, indent=2)
        f.write("\n")
    print(f"{options.out}: {len(header) - 1} tensors, {len(data) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
