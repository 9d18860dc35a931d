#!/usr/bin/env python3
"""qwen3-int4 with one matrix for embedding and head, as newer versions of onnxruntime-genai share it.

usage: share_embedding.py qwen3-int4 qwen3-int4-shared
Its logits need onnxruntime 1.22 or later: npm install onnxruntime-node@1.23.2, then run_onnx.js.
"""
import os, shutil, sys
import numpy as np
import onnx
from onnx import helper, numpy_helper
src, dst = sys.argv[1:3]
shutil.rmtree(dst, ignore_errors=True); shutil.copytree(src, dst)
m = onnx.load(src + '/model.onnx'); g = m.graph
t = {x.name: x for x in g.initializer}
q = 'lm_head.MatMul.weight_Q4'; s = 'lm_head.MatMul.weight_scales'
sc = numpy_helper.to_array(t[s]).reshape(80, 2)
g.initializer.remove(t[s]); g.initializer.append(numpy_helper.from_array(sc, s))
g.initializer.append(numpy_helper.from_array(np.array([80, 32], np.int64), 'flat'))
for i, n in enumerate(list(g.node)):
    if n.name == '/model/embed_tokens/Gather':
        g.node.remove(n)
        g.node.insert(i, helper.make_node('Reshape', [q, 'flat'], ['/model/embed_tokens/Reshape/output_0'], '/model/embed_tokens/Reshape'))
        g.node.insert(i + 1, helper.make_node('GatherBlockQuantized', ['/model/embed_tokens/Reshape/output_0', 'input_ids', s], list(n.output), '/model/embed_tokens/GatherBlockQuantized', domain='com.microsoft', bits=4, block_size=32, gather_axis=0, quantize_axis=1))
g.initializer.remove(t['model.embed_tokens.weight'])
os.remove(dst + '/model.onnx.data'); os.remove(dst + '/model.onnx'); os.remove(dst + '/logits.json')
onnx.save_model(m, dst + '/model.onnx', save_as_external_data=True, all_tensors_to_one_file=True, location='model.onnx.data', size_threshold=100)
