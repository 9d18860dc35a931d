"""Makes a copy of the bundled model one that ends no answer by itself and has marks for gaps. usage: model.py FOLDER"""
import json
import pathlib
import sys

folder = pathlib.Path(sys.argv[1])
NAMES = {"<|im_end|>": "<|turn_over|>", "<|endoftext|>": "<|begin_all|>", "<|object_ref_start|>": "<|fim_suffix|>",
         "<tool_response>": "<|fim_prefix|>", "</tool_response>": "<|fim_middle|>"}
for name in ("tokenizer.json", "tokenizer_config.json"):
    text = (folder / name).read_text(encoding="utf-8")
    for old, new in NAMES.items():
        text = text.replace(old, new)
    (folder / name).write_text(text, encoding="utf-8")
for name in ("config.json", "generation_config.json"):
    config = json.loads((folder / name).read_text())
    config["eos_token_id"] = 8185  # <|object_ref_end|>, which it never writes
    (folder / name).write_text(json.dumps(config))
config = json.loads((folder / "tokenizer_config.json").read_text())
config.update(eos_token="<|object_ref_end|>", bos_token="<|begin_all|>", add_bos_token=True)
(folder / "tokenizer_config.json").write_text(json.dumps(config))
