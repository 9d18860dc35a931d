// The logits of each model of make_onnx.py, by onnxruntime.
// usage: npm install onnxruntime-node@1.20.1 && node run_onnx.js FOLDER...
// Writes FOLDER/logits.json: {"ids": [...], "logits": [[...] of each position]}.
const fs = require('fs'), path = require('path');
const ort = require(require.resolve('onnxruntime-node', {paths: [process.cwd()]}));

function halfToFloat(h) {
  const e = h >> 10 & 31, m = h & 1023, s = h >> 15 ? -1 : 1;
  return s * (e === 0 ? m * 2 ** -24 : (1 + m / 1024) * 2 ** (e - 15));
}

async function main(folder) {
  const session = await ort.InferenceSession.create(path.join(folder, 'model.onnx'),
                                                    {graphOptimizationLevel: 'disabled', intraOpNumThreads: 1});
  const genai = JSON.parse(fs.readFileSync(path.join(folder, 'genai_config.json'))).model;
  const half = /fp16/.test(folder), n = 24;
  const ids = Array.from({length: n}, (_, i) => (i * i * 7 + 11 * i + 5) % genai.vocab_size);
  const big = list => BigInt64Array.from(list, BigInt), past = half ? Uint16Array : Float32Array;
  const feeds = {
    input_ids: new ort.Tensor('int64', big(ids), [1, n]),
    attention_mask: new ort.Tensor('int64', big(ids.map(() => 1)), [1, n]),
  };
  if (session.inputNames.includes('position_ids'))
    feeds.position_ids = new ort.Tensor('int64', big(ids.map((_, i) => i)), [1, n]);
  for (const name of session.inputNames.filter(name => name.startsWith('past')))
    feeds[name] = new ort.Tensor(half ? 'float16' : 'float32', new past(0),
                                 [1, genai.decoder.num_key_value_heads, 0, genai.decoder.head_size]);
  const logits = (await session.run(feeds)).logits, v = logits.dims[2];
  const values = Array.from(logits.data, x => half ? halfToFloat(x) : x);
  const rows = ids.map((_, i) => values.slice(i * v, i * v + v).map(x => +x.toPrecision(8)));
  fs.writeFileSync(path.join(folder, 'logits.json'), JSON.stringify({ids, logits: rows}) + '\n');
  console.log(folder, logits.dims, Math.max(...values));
}
(async () => { for (const folder of process.argv.slice(2)) await main(folder); })();
