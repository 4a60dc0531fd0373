"""A copy of a model with one thing wrong: spoil_model.py SOURCE TARGET HOW (see the ifs below)."""
import json, os, shutil, struct, sys

source, target, how = sys.argv[1:4]
shutil.copytree(source, target)
path = os.path.join(target, "model.safetensors")
with open(path, "rb") as f:
    header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    body = f.read()
header.pop("__metadata__", None)
data = {k: bytearray(body[slice(*v["data_offsets"])]) for k, v in header.items()}


def write(name, names):
    at, head = 0, {}
    for k in names:
        head[k] = dict(header[k], data_offsets=[at, at + len(data[k])])
        at += len(data[k])
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(target, name), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(data[k] for k in names))


if how.startswith("nan:") or how.startswith("inf:"):  # BF16: element 50 of the tensor named
    data[how[4:]][100:102] = b"\xc0\x7f" if how.startswith("nan:") else b"\x80\x7f"
    write("model.safetensors", list(header))
elif how.startswith("dead:"):  # BF16: channel 7 of a decoder layer's norms, values and products is 0, in what reads it, too
    for name in header:
        if not name.startswith("model.layers.%s." % how[5:]):
            continue
        shape, cell = header[name]["shape"], data[name]
        if name.endswith(("layernorm.weight", "v_proj.weight", "up_proj.weight")):
            row = 2 * (shape[1] if len(shape) > 1 else 1)
            cell[7 * row : 8 * row] = bytes(row)
        if len(shape) > 1:
            for r in range(shape[0]):
                at = 2 * (r * shape[1] + 7)
                cell[at : at + 2] = bytes(2)
    write("model.safetensors", list(header))
elif how.startswith("lack:"):
    write("model.safetensors", [k for k in header if k != how[5:]])
elif how == "layers-1":  # config.json counts one decoder layer less than there are: an MTP layer
    config = json.load(open(os.path.join(target, "config.json")))
    config["num_hidden_layers"] -= 1
    with open(os.path.join(target, "config.json"), "w") as f:
        json.dump(config, f)
elif how in ("shards", "shard-missing", "shard-short"):
    names = sorted(header)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    files = ["model-0000%d-of-00002.safetensors" % i for i in (1, 2)]
    for f, half in zip(files, halves):
        write(f, half)
    with open(os.path.join(target, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {}, "weight_map": {k: f for f, half in zip(files, halves) for k in half}}, f)
    os.remove(path)
    last = os.path.join(target, files[1])
    if how == "shard-missing":
        os.remove(last)
    elif how == "shard-short":
        os.truncate(last, os.path.getsize(last) - 5000)
else:
    sys.exit("no way to spoil a model: " + how)
