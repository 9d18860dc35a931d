#!/usr/bin/env python3
"""The golden models' logits computed in double by Hugging Face transformers, and how far its float32 logits are from them.

usage: make_double_goldens.py GOLDENS OUT     (GOLDENS: this folder, or vision_goldens beside it)
Prints the largest difference of each model, of a row's largest absolute logit. Where it is above 2e-6 it writes
OUT/NAME/golden_double.safetensors: ids_K and logits_K as golden.safetensors has them. Rotary frequencies and angles stay
rounded to float32: that is how the models define them. Left out: gpt-oss, whose experts transformers does not compute in
double.
"""
import os
import sys

import numpy as np
import torch

float32 = torch.float32
# transformers rounds to float32 by name in norms, softmax and rotation: here that name means double.
torch.Tensor.float = torch.Tensor.double
cos, sin = torch.Tensor.cos, torch.Tensor.sin
torch.Tensor.cos = lambda angle: cos(angle.to(float32).to(torch.float64))
torch.Tensor.sin = lambda angle: sin(angle.to(float32).to(torch.float64))
torch.set_grad_enabled(False)
torch.set_default_dtype(torch.float64)
torch.float32 = torch.float = torch.float64
import transformers
from safetensors.numpy import load_file as load_arrays, save_file as save_arrays
from safetensors.torch import load_file


def as_stored(f, *args, **options):
    """Calls f while the name float32 means float32."""
    torch.float32 = torch.float = float32
    result = f(*args, **options)
    torch.float32 = torch.float = torch.float64
    return result


def load_model(folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    config._attn_implementation = config._experts_implementation = "eager"
    kind = transformers.AutoModelForImageTextToText if hasattr(config, "vision_config") else transformers.AutoModelForCausalLM
    model = kind.from_config(config).double().eval()
    # Once as transformers arranges the tensors, and once as the file has them: not all are BF16.
    arranged = as_stored(kind.from_pretrained, folder, dtype=torch.bfloat16)
    tensors, buffers = arranged.state_dict(), dict(arranged.named_buffers())
    stored = as_stored(load_file, folder + "/model.safetensors")
    for name, values in model.state_dict().items():
        source = stored[name] if name in stored and stored[name].shape == values.shape else tensors[name]
        values.copy_(source.double())
    for name, values in model.named_buffers():
        if "inv_freq" in name:
            assert buffers[name].dtype == float32
            values.copy_(buffers[name])
    return model


def picture_of(golden, k, ids):
    """What a model with a vision tower reads beside the ids."""
    if f"pixel_values_{k}" not in golden:
        return {}
    image_token = 500  # of make_vision_golden.py
    return {
        "pixel_values": torch.from_numpy(golden[f"pixel_values_{k}"]).double(),
        "image_grid_thw": torch.from_numpy(golden[f"grid_{k}"]).long()[None],
        "mm_token_type_ids": (ids == image_token).long(),
    }


def main(goldens, out):
    for name in sorted(os.listdir(goldens)):
        folder = os.path.join(goldens, name)
        if name == "gpt-oss" or not os.path.exists(folder + "/golden.safetensors"):
            continue
        model, golden, exact, worst = load_model(folder), load_arrays(folder + "/golden.safetensors"), {}, 0
        for k in range(3):
            ids, rounded = golden[f"ids_{k}"], golden[f"logits_{k}"].astype(np.float64)
            tokens = torch.from_numpy(ids).long()[None]
            logits = model(tokens, **picture_of(golden, k, tokens), use_cache=False).logits[0]
            assert logits.dtype == torch.float64
            logits = logits.numpy()[-len(rounded):]
            worst = max(worst, (abs(logits - rounded).max(-1) / abs(logits).max(-1)).max())
            exact[f"ids_{k}"], exact[f"logits_{k}"] = ids, logits.astype(np.float32)
        print(f"{name:16} {worst:.2e}")
        if worst > 2e-6:
            os.makedirs(os.path.join(out, name), exist_ok=True)
            save_arrays(exact, os.path.join(out, name, "golden_double.safetensors"))


main(*sys.argv[1:])
