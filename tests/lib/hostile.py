#!/usr/bin/env python3
"""Writes damaged copies of a model and damaged data sets. usage: hostile.py MODEL-FOLDER OUT-FOLDER
OUT/models/CASE and OUT/data/CASE; the test asks the same of each: exit 65 and one line that names the file."""
import copy
import json
import os
import shutil
import struct
import sys

SOURCE, OUT = sys.argv[1:3]
with open(os.path.join(SOURCE, "model.safetensors"), "rb") as f:
    raw = f.read()
size = struct.unpack("<Q", raw[:8])[0]
header, body = json.loads(raw[8:8 + size]), raw[8 + size:]
Q0, Q1 = ("model.layers.%d.self_attn.q_proj.weight" % i for i in (0, 1))
with open(os.path.join(SOURCE, "config.json")) as f:
    config = json.load(f)
with open(os.path.join(SOURCE, "tokenizer.json")) as f:
    tokenizer = json.load(f)


def model(case):
    folder = os.path.join(OUT, "models", case)
    os.makedirs(folder)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        shutil.copyfile(os.path.join(SOURCE, name), os.path.join(folder, name))
    return folder


def put(path, data):
    with open(path, "wb") as out:
        out.write(data if isinstance(data, bytes) else json.dumps(data).encode())


def weights(case, text, length=None, data=body):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    put(os.path.join(model("st-" + case), "model.safetensors"), struct.pack("<Q", len(text) if length is None else length) + text + data)


def changed(**keys):
    h = copy.deepcopy(header)
    h[Q0].update(keys)
    return h


def safetensors():
    begin, end = header[Q0]["data_offsets"]
    text = json.dumps(header).encode()
    for case, keys in {
            "dtype": {"dtype": "F99"}, "dtype-size": {"dtype": "I8"}, "offset-negative": {"data_offsets": [-4, end]},
            "offset-huge": {"data_offsets": [begin, 2 ** 62]}, "offsets-reversed": {"data_offsets": [end, begin]},
            "overlap": {"data_offsets": header[Q1]["data_offsets"]}, "shape-huge": {"shape": [2 ** 40, 2 ** 40]},
            "shape-wraps": {"shape": [2 ** 32, 2 ** 32]}, "shape-negative": {"shape": [-1, 64]}, "shape-fraction": {"shape": [1.5, 64]},
            "dimensions": {"shape": [1] * 100}, "shape-null": {"shape": None}}.items():
        weights(case, changed(**keys))
    for case, data in {"list": b"[]", "null": b"null", "deep": b'{"a":' * 100000, "not-utf8": text.replace(b"q_proj", b"q_\xff\xfeoj", 1),
                       "nul": text.replace(b"q_proj", b"q\\u0000roj", 1), "trailing": text + b" x",
                       "twice": text[:-1] + b"," + json.dumps({Q0: header[Q0]}).encode()[1:]}.items():
        weights(case, data)
    for case, length in {"length-0": 0, "length-max": 2 ** 64 - 1, "length-past-limit": 101 << 20, "length-past-end": 1 << 26}.items():
        weights(case, header, length)
    weights("cut", header, data=body[:-10])
    weights("longer", header, data=body + b"0123456789")
    weights("nothing", {}, data=b"")
    put(os.path.join(model("st-7-bytes"), "model.safetensors"), raw[:7])


def index():
    names = {n: "a.safetensors" for n in header if n != "__metadata__"}
    for case, data in {"out-of-folder": {"weight_map": dict(names, **{Q0: "../../x.safetensors"})},
                       "absolute": {"weight_map": dict(names, **{Q0: "/etc/passwd"})}, "no-shard": {"weight_map": dict(names, **{Q0: "b.safetensors"})},
                       "number": {"weight_map": dict(names, **{Q0: 5})}, "no-map": {}, "list": [], "empty": {"weight_map": {}},
                       "broken": b"{"}.items():
        folder = model("index-" + case)
        os.rename(os.path.join(folder, "model.safetensors"), os.path.join(folder, "a.safetensors"))
        put(os.path.join(folder, "model.safetensors.index.json"), data)


def configs():
    for key, values in {"hidden_size": (0, -1, 2 ** 40, "a", None, 1.5), "num_hidden_layers": (0, 10 ** 9), "num_attention_heads": (0, 3),
                        "num_key_value_heads": (3,), "head_dim": (0, 7), "vocab_size": (0, 5, 10 ** 12), "intermediate_size": (10 ** 15,),
                        "rms_norm_eps": ("x", -1), "rope_theta": (0, "x"), "hidden_act": ("foo",), "rope_scaling": ({"rope_type": "foo"}, []),
                        "torch_dtype": ("int4",), "tie_word_embeddings": ("yes",), "model_type": (5,)}.items():
        for i, value in enumerate(values):
            put(os.path.join(model("config-%s-%d" % (key, i)), "config.json"), dict(config, **{key: value}))
    for case, data in {"empty": b"", "deep": b"[" * 200000, "nul": b'{"model_type":"llama\x00"}', "utf16": json.dumps(config).encode("utf-16"),
                       "trailing": json.dumps(config).encode() + b"}"}.items():
        put(os.path.join(model("config-" + case), "config.json"), data)


def tokenizers():
    def inside(**keys):
        return dict(tokenizer, model=dict(tokenizer["model"], **keys))
    vocabulary = tokenizer["model"]["vocab"]
    for case, data in {"cut": json.dumps(tokenizer).encode()[:2000], "empty": b"", "list": [], "deep": b"[" * 100000,
                       "id-negative": inside(vocab=dict(vocabulary, a=-5)), "id-huge": inside(vocab=dict(vocabulary, a=2 ** 40)),
                       "id-text": inside(vocab=dict(vocabulary, a="x")), "no-vocab": inside(vocab=None), "merge": inside(merges=["a"]),
                       "merge-number": inside(merges=[5]), "merge-unknown": inside(merges=[["zz", "qq"]]), "type": inside(type="Unigram"),
                       "pattern": dict(tokenizer, pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+(?R)"}, "behavior": "Isolated",
                                                                 "invert": False}),
                       "pre": dict(tokenizer, pre_tokenizer={"type": "Zork"}), "normalizer": dict(tokenizer, normalizer={"type": "Zork"})}.items():
        put(os.path.join(model("tokenizer-" + case), "tokenizer.json"), data)


def data_sets():
    os.makedirs(os.path.join(OUT, "data"))
    for case, data in {"empty.jsonl": b"", "blank.jsonl": b"\n\n  \n", "nul.jsonl": b'{"text":"a"}\x00\n', "nul-escape.jsonl": b'{"text":"a\\u0000b"}\n',
                       "utf16.jsonl": '{"text":"hi"}\n'.encode("utf-16"), "surrogate.jsonl": b'{"text":"\\ud800"}\n',
                       "control.jsonl": b'{"text":"a\x01b"}\n', "deep.jsonl": b'{"text":' + b"[" * 100000 + b"\n", "cut.jsonl": b'{"text":"abc',
                       "number.jsonl": b'{"text":5}\n', "huge-line.jsonl": b"x" * 80000000, "id-negative.jsonl": b'{"input_ids":[-1]}\n',
                       "id-huge.jsonl": b'{"input_ids":[999999]}\n', "id-none.jsonl": b'{"input_ids":[]}\n', "id-text.jsonl": b'{"input_ids":["a"]}\n',
                       "id-fraction.jsonl": b'{"input_ids":[1.5]}\n', "mixed.json": b'["a",5]', "text.json": b'"a"', "cut.json": b'["a"',
                       "table.parquet": b"PAR1"}.items():
        put(os.path.join(OUT, "data", case), data)


safetensors()
index()
configs()
tokenizers()
data_sets()
