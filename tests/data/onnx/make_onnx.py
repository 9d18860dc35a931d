#!/usr/bin/env python3
"""Tiny random models as the model builder of onnxruntime-genai exports them.

usage: make_onnx.py BUILDER.py OUT_DIR FUZZ.onnx
BUILDER.py is src/python/py/models/builder.py of microsoft/onnxruntime-genai at 95b572a1a (May 2025), which writes the
graphs; torch, numpy, onnx and packaging are Debian's. What the builder takes from transformers, a config and modules with
weights, is made here, as is what it takes from onnxruntime: the quantizer, which puts com.microsoft's MatMulNBits in place
of MatMul with the names and layouts of onnxruntime's own. Then run_onnx.js adds the logits, which are onnxruntime's.

FUZZ.onnx is a still smaller one in a single file, for fuzz/corpus/onnx.

Each folder has model.onnx, model.onnx.data, genai_config.json and, but for one, config.json.
"""
import importlib.util, json, os, shutil, sys, types
import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

builder_path, out, fuzz = sys.argv[1:4]


class Config:
    def __init__(self, folder):
        self.__dict__.update(json.load(open(os.path.join(folder, "config.json"))))
        self._name_or_path = folder


def linear(n_in, n_out, bias=False):
    m = torch.nn.Linear(n_in, n_out, bias=bias)
    m.weight.data.normal_(0, n_in ** -0.5)
    if bias: m.bias.data.normal_(0, 0.3)
    return m


class Norm(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = torch.nn.Parameter(1 + 0.2 * torch.randn(n), requires_grad=False)


class Attention(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        d, n, kv = c.head_dim, c.num_attention_heads, c.num_key_value_heads
        bias = c.model_type == "qwen2"
        self.q_proj, self.k_proj = linear(c.hidden_size, n * d, bias), linear(c.hidden_size, kv * d, bias)
        self.v_proj, self.o_proj = linear(c.hidden_size, kv * d, bias), linear(n * d, c.hidden_size)
        if c.model_type == "qwen3": self.q_norm, self.k_norm = Norm(d), Norm(d)


class Mlp(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj, self.up_proj = linear(c.hidden_size, c.intermediate_size), linear(c.hidden_size, c.intermediate_size)
        self.down_proj = linear(c.intermediate_size, c.hidden_size)


class TinyDecoderLayer(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm, self.self_attn = Norm(c.hidden_size), Attention(c)
        self.post_attention_layernorm, self.mlp = Norm(c.hidden_size), Mlp(c)


class Body(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(c.vocab_size, c.hidden_size)
        self.embed_tokens.weight.data.normal_(0, 0.5)
        self.layers = torch.nn.ModuleList(TinyDecoderLayer(c) for _ in range(c.num_hidden_layers))
        self.norm = Norm(c.hidden_size)


class Causal(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.model, self.lm_head = Body(c), linear(c.hidden_size, c.vocab_size)
        if c.tie_word_embeddings: self.lm_head.weight = self.model.embed_tokens.weight


class Tokenizer:
    def save_pretrained(self, folder): pass


class Quantizer:
    """Blocks of each column of B (K, N): (N, blocks, block / 2) bytes, the lower nibble first."""
    def __init__(self, model, block_size, is_symmetric, accuracy_level, **_):
        self.model = types.SimpleNamespace(model=model)
        self.block, self.symmetric, self.level = block_size, is_symmetric, accuracy_level

    def quantized(self, w):
        n, k = w.shape
        g = w.reshape(n, k // self.block, self.block)
        if self.symmetric:
            top = np.take_along_axis(g, np.abs(g).argmax(-1)[..., None], -1)[..., 0]
            scale, zero = top / -8, np.full(top.shape, 8, np.uint8)
        else:
            low, high = np.minimum(g.min(-1), 0), np.maximum(g.max(-1), 0)
            scale = (high - low) / 15
            zero = np.clip(np.round(-low / scale), 0, 15).astype(np.uint8)
        q = np.clip(np.round(g / scale[..., None]) + zero[..., None], 0, 15).astype(np.uint8)
        return q[..., 0::2] | q[..., 1::2] << 4, scale, zero

    def process(self):
        graph = self.model.model.graph
        tensors = {t.name: t for t in graph.initializer}
        for node in list(graph.node):
            if node.op_type != "MatMul" or node.input[1] not in tensors: continue
            name = node.input[1]
            w = numpy_helper.to_array(tensors[name])
            q, scale, zero = self.quantized(w.T.astype(np.float32))
            new = [numpy_helper.from_array(q, name + "_Q4"),
                   numpy_helper.from_array(scale.astype(w.dtype).reshape(-1), name + "_scales")]
            if not self.symmetric:
                if zero.shape[1] % 2: zero = np.pad(zero, ((0, 0), (0, 1)))
                new.append(numpy_helper.from_array((zero[:, 0::2] | zero[:, 1::2] << 4).reshape(-1), name + "_zero_points"))
            graph.initializer.remove(tensors.pop(name))
            graph.initializer.extend(new)
            made = helper.make_node("MatMulNBits", [node.input[0]] + [t.name for t in new], list(node.output),
                                    node.name + "_Q4", domain="com.microsoft", K=w.shape[0], N=w.shape[1], bits=4,
                                    block_size=self.block, accuracy_level=1)  # floats: nothing else is rounded
            at = list(graph.node).index(node)
            graph.node.remove(node)
            graph.node.insert(at, made)


def load(name, **attributes):
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module


class Loader:
    def __init__(self, make): self.from_pretrained = lambda folder, **_: make(folder)


torch.set_grad_enabled(False)
load("onnxruntime", __version__="1.20.1")
load("onnxruntime.quantization")
load("onnxruntime.quantization.matmul_4bits_quantizer", MatMul4BitsQuantizer=Quantizer,
     QuantFormat=types.SimpleNamespace(QDQ=0, QOperator=1))
load("transformers", AutoConfig=Loader(Config), AutoModelForCausalLM=Loader(lambda folder: Causal(Config(folder))),
     AutoTokenizer=Loader(lambda folder: Tokenizer()), GenerationConfig=Loader(Config))
spec = importlib.util.spec_from_file_location("builder", builder_path)
builder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(builder)

sizes = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             head_dim=16, vocab_size=80, max_position_embeddings=64, rms_norm_eps=1e-6, hidden_act="silu",
             bos_token_id=1, eos_token_id=[2, 3], tie_word_embeddings=False)
small = dict(sizes, hidden_size=32, intermediate_size=64, num_attention_heads=2, num_key_value_heads=1, vocab_size=72)
llama, qwen2, qwen3 = (dict(model_type=t, architectures=[c + "ForCausalLM"])
                       for t, c in (("llama", "Llama"), ("qwen2", "Qwen2"), ("qwen3", "Qwen3")))
llama3 = dict(rope_theta=500000.0, rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                                                     high_freq_factor=4.0, original_max_position_embeddings=32))
tiny = dict(small, intermediate_size=32, num_hidden_layers=1, vocab_size=40)
models = {  # config, precision, execution provider, further options
    "llama-fp32": (dict(small, **llama, **llama3), "fp32", "cpu", {}),
    "qwen2-fp16": (dict(sizes, **qwen2, rope_theta=1000000.0), "fp16", "webgpu", {}),
    "qwen3-fp32": (dict(small, **qwen3, rope_theta=1000000.0, tie_word_embeddings=True), "fp32", "cpu", {}),
    "qwen3-int4": (dict(sizes, **qwen3, rope_theta=1000000.0), "int4", "cpu", {}),
    # Without config.json: genai_config.json and the graph say what there is to know.
    "llama-int4": (dict(sizes, **llama, rope_theta=10000.0), "int4", "cpu", {"int4_is_symmetric": False}),
    "fuzz": (dict(tiny, **qwen3, rope_theta=1000000.0), "int4", "cpu", {"int4_is_symmetric": False}),
}
for i, (name, (config, precision, provider, options)) in enumerate(models.items()):
    torch.manual_seed(100 + i)
    folder, made = os.path.join(out, name), os.path.join(out, "source")
    for f in (folder, made):
        shutil.rmtree(f, ignore_errors=True)
        os.makedirs(f)
    json.dump(config, open(os.path.join(made, "config.json"), "w"), indent=1)
    builder.create_model("", made, folder, precision, provider, os.path.join(out, "cache"), **options)
    if name != "llama-int4": shutil.copy(os.path.join(made, "config.json"), folder)
    shutil.rmtree(made)
small_model = onnx.load(os.path.join(out, "fuzz", "model.onnx"))
del small_model.graph.value_info[:]
onnx.save(small_model, fuzz)
for f in ("cache", "fuzz"): shutil.rmtree(os.path.join(out, f), ignore_errors=True)
