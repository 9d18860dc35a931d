#!/usr/bin/env python3
"""Writes a tiny random checkpoint of any architecture as a Hugging Face folder, from its config.json and a list
of its tensors. Python alone: no torch, no numpy.

usage: make_tiny_model.py OUT_DIR [--family NAME | --spec FILE] [--seed N] [--dtype bf16|f32]

--spec names a JSON file of a family that is not built in:

  {"config": {"model_type": "qwen3", "hidden_size": 64, ...},
   "tensors": {"model.embed_tokens.weight": ["vocab_size", "hidden_size"],
               "model.layers.{layer}.self_attn.q_proj.weight": ["num_attention_heads * head_dim", "hidden_size"],
               "model.layers.{layer}.mlp.experts.{expert}.up_proj.weight": ["moe_intermediate_size", "hidden_size"]}}

Sizes are numbers or products of keys of the config. {layer} counts to num_hidden_layers, {expert} to
num_experts or num_local_experts. Values: normal; of matrices with deviation 1 / sqrt(columns), 0.5 for
embeddings, 1 + 0.2 for norms, 0.2 for biases, so that logits differ clearly and no layer vanishes.

CONTRIBUTING.md says how such a folder becomes a golden model.
"""
import argparse
import json
import math
import os
import random
import struct
import sys

ATTENTION = {
    "model.embed_tokens.weight": ["vocab_size", "hidden_size"],
    "model.norm.weight": ["hidden_size"],
    "model.layers.{layer}.input_layernorm.weight": ["hidden_size"],
    "model.layers.{layer}.post_attention_layernorm.weight": ["hidden_size"],
    "model.layers.{layer}.self_attn.q_proj.weight": ["num_attention_heads * head_dim", "hidden_size"],
    "model.layers.{layer}.self_attn.k_proj.weight": ["num_key_value_heads * head_dim", "hidden_size"],
    "model.layers.{layer}.self_attn.v_proj.weight": ["num_key_value_heads * head_dim", "hidden_size"],
    "model.layers.{layer}.self_attn.o_proj.weight": ["hidden_size", "num_attention_heads * head_dim"],
}
HEAD_NORMS = {
    "model.layers.{layer}.self_attn.q_norm.weight": ["head_dim"],
    "model.layers.{layer}.self_attn.k_norm.weight": ["head_dim"],
}
DENSE = {
    "model.layers.{layer}.mlp.gate_proj.weight": ["intermediate_size", "hidden_size"],
    "model.layers.{layer}.mlp.up_proj.weight": ["intermediate_size", "hidden_size"],
    "model.layers.{layer}.mlp.down_proj.weight": ["hidden_size", "intermediate_size"],
}
EXPERTS = {
    "lm_head.weight": ["vocab_size", "hidden_size"],
    "model.layers.{layer}.mlp.gate.weight": ["num_experts", "hidden_size"],
    "model.layers.{layer}.mlp.experts.{expert}.gate_proj.weight": ["moe_intermediate_size", "hidden_size"],
    "model.layers.{layer}.mlp.experts.{expert}.up_proj.weight": ["moe_intermediate_size", "hidden_size"],
    "model.layers.{layer}.mlp.experts.{expert}.down_proj.weight": ["hidden_size", "moe_intermediate_size"],
}
BIASES = {
    "model.layers.{layer}.self_attn.q_proj.bias": ["num_attention_heads * head_dim"],
    "model.layers.{layer}.self_attn.k_proj.bias": ["num_key_value_heads * head_dim"],
    "model.layers.{layer}.self_attn.v_proj.bias": ["num_key_value_heads * head_dim"],
}
CONFIG = {
    "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 256, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "hidden_act": "silu", "tie_word_embeddings": True,
    "bos_token_id": 1, "eos_token_id": 2,
}
FAMILIES = {
    "qwen3": {
        "config": {**CONFIG, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"},
        "tensors": {**ATTENTION, **HEAD_NORMS, **DENSE},
    },
    "qwen2": {
        "config": {**CONFIG, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
        "tensors": {**ATTENTION, **BIASES, **DENSE},
    },
    "llama": {
        "config": {**CONFIG, "architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        "tensors": {**ATTENTION, **DENSE},
    },
    "qwen3_moe": {
        "config": {**CONFIG, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 4,
                   "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True,
                   "tie_word_embeddings": False},
        "tensors": {**ATTENTION, **HEAD_NORMS, **EXPERTS},
    },
}


def size(text, config):
    """A number, or a product of the config's keys."""
    product = 1
    for factor in str(text).split("*"):
        factor = factor.strip()
        value = int(factor) if factor.isdigit() else config.get(factor)
        if not isinstance(value, int) or value < 1:
            sys.exit(f"{text}: expected a number or keys of the config, {factor} is {value}")
        product *= value
    return product


def expand(spec):
    """All tensors as (name, shape)."""
    config = spec["config"]
    n_layers = size("num_hidden_layers", config)
    n_experts = config.get("num_experts", config.get("num_local_experts", 0))
    for pattern, sizes in spec["tensors"].items():
        shape = [size(s, config) for s in sizes]
        for layer in range(n_layers if "{layer}" in pattern else 1):
            for expert in range(n_experts if "{expert}" in pattern else 1):
                yield pattern.replace("{layer}", str(layer)).replace("{expert}", str(expert)), shape


def values(name, shape, rng):
    n = math.prod(shape)
    if "norm" in name and not name.endswith("bias"):
        return [1 + 0.2 * rng.gauss(0, 1) for _ in range(n)]
    deviation = 0.2 if len(shape) < 2 else 0.5 if "embed" in name else 1 / math.sqrt(shape[-1])
    return [rng.gauss(0, deviation) for _ in range(n)]


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
    parser.add_argument("--family", choices=sorted(FAMILIES), default="qwen3")
    parser.add_argument("--spec")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    options = parser.parse_args()
    spec = FAMILIES[options.family]
    if options.spec:
        with open(options.spec, encoding="utf-8") as f:
            spec = json.load(f)

    rng = random.Random(options.seed)
    header, data = {"__metadata__": {"format": "pt"}}, bytearray()
    for name, shape in expand(spec):
        part = encode(values(name, shape, rng), options.dtype)
        header[name] = {"dtype": options.dtype.upper(), "shape": shape,
                        "data_offsets": [len(data), len(data) + len(part)]}
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
