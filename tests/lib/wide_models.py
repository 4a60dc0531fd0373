"""Model folders made of the demo's: its layers many times over, and the names of many linears whose weights take no room on the disk."""
import json
import os
import re
import struct


def write_model(model, folder, config, tensors, data, size):
    """A model folder: data is what the file of weights holds behind its header, then zeros up to `size` (a hole)."""
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(model):
        if name.endswith(".json") and name != "config.json":
            with open(os.path.join(model, name), "rb") as f, open(os.path.join(folder, name), "wb") as to:
                to.write(f.read())
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    text = json.dumps(tensors).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
        f.truncate(8 + len(text) + size)


def demo(model):
    with open(os.path.join(model, "config.json")) as f:
        config = json.load(f)
    with open(os.path.join(model, "model.safetensors"), "rb") as f:
        tensors = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    tensors.pop("__metadata__", None)
    return config, tensors, data


def repeated(model, times):
    """Each layer of the model so many times, one behind the other; the file holds all of them."""
    config, tensors, data = demo(model)
    layers, out, body = config["num_hidden_layers"], {}, []
    at = 0
    for name, t in tensors.items():
        part = re.match(r"(model\.layers\.)(\d+)(\..*)", name)
        for k in range(times if part else 1):
            begin, end = t["data_offsets"]
            copy = "%s%d%s" % (part.group(1), k * layers + int(part.group(2)), part.group(3)) if part else name
            out[copy] = dict(t, data_offsets=[at, at + end - begin])
            body.append(data[begin:end])
            at += end - begin
    return dict(config, num_hidden_layers=layers * times), out, b"".join(body), at


def large(model, linears):
    """A model of many small layers, all zeros."""
    config, tensors, _ = demo(model)
    layers = linears // 7
    config = dict(config, hidden_size=8, intermediate_size=8, num_hidden_layers=layers, num_attention_heads=2, num_key_value_heads=1,
                  head_dim=4)
    shape = {"q_proj": [8, 8], "k_proj": [4, 8], "v_proj": [4, 8], "o_proj": [8, 8], "q_norm": [4], "k_norm": [4], "gate_proj": [8, 8],
             "up_proj": [8, 8], "down_proj": [8, 8], "embed_tokens": [config["vocab_size"], 8], "lm_head": [config["vocab_size"], 8]}
    out, at = {}, 0
    for name in tensors:
        part = re.match(r"(model\.layers\.)0(\..*)", name)
        if not part and ".layers." in name:
            continue
        for k in range(layers if part else 1):
            s = shape.get(name.split(".")[-2], [8])
            n = 2 * s[0] * (s[1] if len(s) > 1 else 1)
            out["%s%d%s" % (part.group(1), k, part.group(2)) if part else name] = {"dtype": "BF16", "shape": s, "data_offsets": [at, at + n]}
            at += n
    return config, out, b"", at
