"""Reads a folder that `slimscope quant` wrote, from specs/formats.md alone, and writes the float32 model it stands for.

usage: dequantize.py QUANTIZED MODEL OUT [RECIPE]   (MODEL: the source, for what is no tensor)
RECIPE: where to write what a loader of compressed-tensors would compute, linear by linear, as a recipe.
Shares no code with the program: the point is that somebody else's reader gets the weights that were measured.
"""
import array
import json
import math
import os
import re
import shutil
import struct
import sys

SIZE = {"F32": 4, "BF16": 2, "F16": 2, "I8": 1, "U8": 1, "F8_E4M3": 1, "I32": 4, "I64": 8}
E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def e4m3(b):
    sign, e, m = -1.0 if b & 128 else 1.0, b >> 3 & 15, b & 7
    return sign * (m / 8 * 2.0**-6 if e == 0 else (1 + m / 8) * 2.0 ** (e - 7))


E4M3 = [e4m3(b) for b in range(256)]


def read_folder(path):
    """name -> (dtype, shape, bytes) of every safetensors file."""
    out = {}
    for f in sorted(os.listdir(path)):
        if not f.endswith(".safetensors"):
            continue
        with open(os.path.join(path, f), "rb") as h:
            head = json.loads(h.read(struct.unpack("<Q", h.read(8))[0]))
            body = h.read()
        for name, t in head.items():
            if name != "__metadata__":
                a, b = t["data_offsets"]
                out[name] = (t["dtype"], t["shape"], body[a:b])
    return out


def floats(t):
    """Values of a float tensor, or the integers of an integer one."""
    kind, _, data = t
    if kind == "BF16":
        wide = bytearray(2 * len(data))
        wide[2::4], wide[3::4] = data[0::2], data[1::2]
        return array.array("f", bytes(wide))
    if kind == "F16":
        return array.array("f", struct.unpack("<%de" % (len(data) // 2), data))
    code = {"F32": "f", "I8": "b", "U8": "B", "I32": "i", "I64": "q", "F8_E4M3": "B"}[kind]
    return array.array(code, data)


def grouped(codes, scale, offset, rows, cols):
    """(code - offset) * scale with parameters for runs of a row."""
    groups = len(scale) // rows
    run = -(-cols // groups)
    out = array.array("f", bytes(4 * rows * cols))
    for r in range(rows):
        for c in range(cols):
            g = r * groups + c // run
            out[r * cols + c] = (codes[r * cols + c] - (offset[g] if offset else 0)) * scale[g]
    return out


def integers(t, name, kind):
    codes = floats(t[name + ".weight"])
    rows, cols = t[name + ".weight"][1]
    if kind in ("W4A8_DYNAMIC", "W4A16"):  # rows 2i and 2i+1 share a byte
        packed, codes = codes, array.array("b", bytes(2 * rows * cols))
        for i in range(rows):
            for c in range(cols):
                b = packed[i * cols + c] & 255
                for half, v in enumerate((b & 15, b >> 4)):
                    codes[(2 * i + half) * cols + c] = v - 16 if v > 7 else v
        rows *= 2
    if kind == "W8A8":  # the weight's scale is not stored: deq_scale = input_scale * weight_scale
        step = floats(t[name + ".input_scale"])[0]
        scale = [d / step for d in floats(t[name + ".deq_scale"])]
        return grouped(codes, scale, None, rows, cols), rows, cols
    scale, offset = floats(t[name + ".weight_scale"]), floats(t[name + ".weight_offset"])
    return grouped(codes, scale, offset, rows, cols), rows, cols


def blocks(t, name, kind):
    codes, exps = floats(t[name + ".weight"]), floats(t[name + ".weight_scale"])
    rows, cols = t[name + ".weight"][1]
    if kind == "W8A8_MXFP8":
        values = [E4M3[b] for b in codes]
    else:  # two elements of a row share a byte
        values, cols = [], 2 * cols
        for b in codes:
            for v in (b & 15, b >> 4):
                values.append(-E2M1[v & 7] if v & 8 else E2M1[v])
    scale = [2.0 ** (e - 127) for e in exps]
    groups = len(scale) // rows
    out = array.array("f", bytes(4 * rows * cols))
    for i in range(rows * cols):
        out[i] = values[i] * scale[i // cols * groups + i % cols // 32]
    return out, rows, cols


def linear(t, name, kind):
    if kind == "WFP8AFP8_DYNAMIC":
        rows, cols = t[name + ".weight"][1]
        return grouped([E4M3[b] for b in floats(t[name + ".weight"])], floats(t[name + ".weight_scale"]), None, rows, cols), rows, cols
    return blocks(t, name, kind) if "MX" in kind else integers(t, name, kind)


def ascend(t, path):
    """(name, shape, values) of every float tensor, by the description of an Ascend folder."""
    with open(path) as f:
        kinds = json.load(f)
    for name, (kind, shape, _) in t.items():
        label = kinds.get(name)
        if not isinstance(label, str):
            sys.exit("%s is not in the description" % name)
        if name.endswith(".weight") and label != "FLOAT":
            values, rows, cols = linear(t, name[: -len(".weight")], label)
            yield name, [rows, cols], values
        elif label == "FLOAT" and kind in ("F32", "BF16", "F16"):
            yield name, shape, floats(t[name])


# ---- compressed-tensors: who computes how is told by names alone ----


def named(module, text):
    return re.match(text[3:], module) is not None if text.startswith("re:") else text == module


def scheme_of(module, config):
    """What a loader makes of this linear: ignored first, then exact names, expressions, the class; of two groups with
    the same target the later one. None: it is left alone."""
    if any(named(module, i) or i == "Linear" for i in config["ignore"]):
        return None
    target = {}
    for group in config["config_groups"].values():
        for name in group["targets"]:
            target[name] = group
    order = sorted(target, key=lambda x: (x == "Linear", x.startswith("re:"), x))
    return next((target[x] for x in order if x == "Linear" or named(module, x)), None)


def fits(t, module, group):
    """The tensors that the scheme makes parameters for, and no others."""
    shape = t[module + ".weight"][1]
    act = group["input_activations"]
    want = {"weight": ("I8", shape), "weight_scale": (None, [shape[0], 1])}
    if not act["dynamic"]:
        want["input_scale"] = ("F32", [1])
        if not act["symmetric"]:
            want["input_zero_point"] = (None, [1])
    for suffix, (kind, dims) in want.items():
        have = t.get(module + "." + suffix)
        if have is None:
            sys.exit("%s: the scheme wants %s" % (module, suffix))
        if (kind and have[0] != kind) or have[1] != dims:
            sys.exit("%s.%s is %s %s" % (module, suffix, have[0], have[1]))
    for suffix in ("weight_scale", "input_scale"):
        if suffix in want and not all(0 < v < math.inf for v in floats(t[module + "." + suffix])):
            sys.exit("%s.%s is not above 0" % (module, suffix))
    extra = [n for n in t if n.startswith(module + ".") and n[len(module) + 1 :] not in list(want) + ["bias"]]
    if extra:
        sys.exit("%s: nobody reads %s" % (module, extra[0]))


def entry(group, names):
    act = group["input_activations"]
    scope = {"token": "per_token", "tensor": "per_tensor"}[act["strategy"]]
    return """  - type: linear_quant
    qconfig:
      act: {dtype: int8, scope: %s, symmetric: %s, method: minmax}
      weight: {dtype: int8, scope: per_channel, symmetric: true, method: minmax}
    include: [%s]
""" % (scope, str(act["symmetric"]).lower(), ", ".join("'%s'" % n for n in names))


def compressed(t, config, recipe):
    chosen = {}
    rest = set(t)
    for name in [n for n in t if n.endswith(".weight") and len(t[n][1]) == 2]:
        module = name[: -len(".weight")]
        group = None if module.endswith("embed_tokens") else scheme_of(module, config)
        if group is None:
            continue
        fits(t, module, group)
        chosen.setdefault(json.dumps(group), (group, []))[1].append(module)
        rows, cols = t[name][1]
        yield name, [rows, cols], grouped(floats(t[name]), floats(t[module + ".weight_scale"]), None, rows, cols)
        rest -= {module + "." + s for s in ("weight", "weight_scale", "input_scale", "input_zero_point")}
    for name in rest:
        if t[name][0] not in ("F32", "BF16", "F16"):
            sys.exit("%s is %s, and no group takes it" % (name, t[name][0]))
        yield name, t[name][1], floats(t[name])
    if recipe:
        with open(recipe, "w") as f:
            f.write("apiversion: modelslim_v1\nspec:\n  process:\n")
            f.write("".join(entry(g, names) for g, names in chosen.values()))
            f.write("  save:\n  - type: compressed_tensors\n")


def main(quantized, model, out, recipe=None):
    t = read_folder(quantized)
    description = os.path.join(quantized, "quant_model_description.json")
    if os.path.exists(description):
        done = list(ascend(t, description))
    else:
        with open(os.path.join(quantized, "config.json")) as f:
            done = list(compressed(t, json.load(f)["quantization_config"], recipe))
    os.makedirs(out)
    for f in os.listdir(model):
        if not f.endswith((".safetensors", "index.json")):
            shutil.copyfile(os.path.join(model, f), os.path.join(out, f))
    with open(os.path.join(out, "config.json")) as f:
        config = json.load(f)
    config["torch_dtype"] = "float32"
    config.pop("dtype", None)
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(config, f)
    head, at = {}, 0
    for name, shape, values in done:
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * len(values)]}
        at += 4 * len(values)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(out, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, _, values in done:
            f.write(values.tobytes())


main(*sys.argv[1:])
