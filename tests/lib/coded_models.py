#!/usr/bin/env python3
"""coded_models.py KIND CODED PLAIN: writes one random model twice, its weights as codes with scales into folder CODED, and the
values that those stand for, worked out here one by one, as BF16 into folder PLAIN."""
import json, os, random, struct, sys


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def bf16(x):
    u = struct.unpack("<I", struct.pack("<f", x))[0]
    return (u + 0x7FFF + ((u >> 16) & 1)) >> 16


def e4m3(b):
    e, m = (b >> 3) & 15, b & 7
    v = m * 2.0**-9 if e == 0 else (8 + m) * 2.0 ** (e - 10)
    return -v if b & 128 else v


def e2m1(c):
    v = (0, 0.5, 1, 1.5, 2, 3, 4, 6)[c & 7]
    return -v if c & 8 else v


class Model:
    def __init__(self):
        self.t = {}

    def add(self, name, dtype, shape, data):
        self.t[name] = (dtype, shape, bytes(data))

    def write(self, folder, config):
        os.makedirs(folder)
        head, at = {}, 0
        for k, (d, s, b) in self.t.items():
            head[k] = {"dtype": d, "shape": s, "data_offsets": [at, at + len(b)]}
            at += len(b)
        h = json.dumps(head).encode()
        h += b" " * (-len(h) % 8)
        with open(os.path.join(folder, "model.safetensors"), "wb") as f:
            f.write(struct.pack("<Q", len(h)) + h + b"".join(b for _, _, b in self.t.values()))
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f)


R = random.Random(20)


def halves(values):
    return struct.pack("<%dH" % len(values), *values)


def plain(mean, std, n):
    return [bf16(R.gauss(mean, std)) for _ in range(n)]


# Each coder: codes' tensors under `name` and the [rows][cols] values in BF16 that they stand for.
def fp8(block, tail, e8m0):
    def code(coded, name, rows, cols):
        bn, bk = block
        nr, nc = -(-rows // bn), -(-cols // bk)
        codes = bytes(R.choice((0, 128)) + R.randrange(127) for _ in range(rows * cols))
        base = 1 / (cols**0.5 * 110)
        if e8m0:
            exps = [max(0, min(254, 127 - 10 + R.randrange(3))) for _ in range(nr * nc)]
            scales = [2.0 ** (e - 127) for e in exps]
            coded.add(name.replace(".weight", "") + tail, "F8_E8M0", [nr, nc], bytes(exps))
        else:
            scales = [f32(base * R.uniform(0.4, 1.6)) for _ in range(nr * nc)]
            coded.add(name + tail, "F32", [nr, nc], struct.pack("<%df" % len(scales), *scales))
        coded.add(name, "F8_E4M3", [rows, cols], codes)
        return [bf16(f32(e4m3(codes[i * cols + j]) * scales[i // bn * nc + j // bk])) for i in range(rows) for j in range(cols)]
    return code


def fp4(coded, name, rows, cols):
    codes = [R.randrange(16) for _ in range(rows * cols)]
    exps = [124 - (cols > 50) * 2 + R.randrange(3) - 2 for _ in range(rows * cols // 32)]
    packed = bytes(codes[i] | codes[i + 1] << 4 for i in range(0, len(codes), 2))
    coded.add(name, "I8", [rows, cols // 2], packed)
    coded.add(name.replace(".weight", "") + ".scale", "F8_E8M0", [rows, cols // 32], bytes(exps))
    return [bf16(e2m1(c) * 2.0 ** (exps[i // 32] - 127)) for i, c in enumerate(codes)]


def int4(group):
    def code(coded, name, rows, cols):
        base = name[: -len(".weight")]
        scales = [bf16(R.uniform(0.4, 1.6) / (cols**0.5 * 4.6)) for _ in range(rows * cols // group)]
        words, out = [], []
        for i in range(rows):
            codes = [R.randrange(16) for _ in range(cols)] + [8] * (-cols % 8)
            for w in range(0, len(codes), 8):
                words.append(sum(c << 4 * k for k, c in enumerate(codes[w : w + 8])))
            for j in range(cols):
                s = struct.unpack("<f", struct.pack("<I", scales[(i * cols + j) // group] << 16))[0]
                out.append(bf16(f32((codes[j] - 8) * s)))
        coded.add(base + ".weight_packed", "I32", [rows, -(-cols // 8)], struct.pack("<%dI" % len(words), *words))
        coded.add(base + ".weight_scale", "BF16", [rows, cols // group], halves(scales))
        coded.add(base + ".weight_shape", "I64", [2], struct.pack("<2q", rows, cols))
        return out
    return code


def both(c, p, name, shape, mean, std):
    n = 1
    for s in shape:
        n *= s
    b = halves(plain(mean, std, n))
    c.add(name, "BF16", shape, b)
    p.add(name, "BF16", shape, b)


def linear(c, p, name, rows, cols, coder):
    if coder is None:
        return both(c, p, name + ".weight", [rows, cols], 0, cols**-0.5)
    p.add(name + ".weight", "BF16", [rows, cols], halves(coder(c, name + ".weight", rows, cols)))


def attention(c, p, at, k, coder):
    for n, rows, cols in (("q", k["q"], k["h"]), ("k", k["kv"], k["h"]), ("v", k["kv"], k["h"]), ("o", k["h"], k["q"])):
        # one that the quantizer left as it was
        linear(c, p, at + "self_attn.%s_proj" % n, rows, cols, None if n == "o" and ".1." in at else coder)
    for n in ("q_norm", "k_norm") if k["qk_norm"] else ():
        both(c, p, at + "self_attn.%s.weight" % n, [k["d"]], 1, 0.2)


def stacked(c, p, at, k, kind):
    """Experts in tensors of all, in `c`; one by one in `p` unless MXFP4, whose plain form is stacked too."""
    E, H, I = 4, k["h"], k["i"]
    if kind == "mxfp4":
        for name, rows, cols in (("gate_up_proj", 2 * I, H), ("down_proj", H, I)):
            codes = [R.randrange(16) for _ in range(E * rows * cols)]
            exps = [121 + R.randrange(4) for _ in range(len(codes) // 32)]
            c.add(at + "mlp.experts.%s_blocks" % name, "U8", [E, rows, cols // 32, 16],
                  bytes(codes[i] | codes[i + 1] << 4 for i in range(0, len(codes), 2)))
            c.add(at + "mlp.experts.%s_scales" % name, "U8", [E, rows, cols // 32], bytes(exps))
            v = [bf16(e2m1(x) * 2.0 ** (exps[i // 32] - 127)) for i, x in enumerate(codes)]
            turned = [v[(e * rows + r) * cols + j] for e in range(E) for j in range(cols) for r in range(rows)]
            p.add(at + "mlp.experts." + name, "BF16", [E, cols, rows], halves(turned))
            both(c, p, at + "mlp.experts.%s_bias" % name, [E, rows], 0, 0.3)
        return
    for names, rows, cols in ((("gate_proj", "up_proj"), I, H), (("down_proj",), H, I)):
        values = {}  # (part, expert) -> rows*cols values
        parts = [(n,) for n in names] if kind.startswith("f") else [names]
        for tensor in parts:
            n = len(tensor) * rows
            name = at + ("mlp.%s.weight" % tensor[0] if kind.startswith("f") else "mlp.experts." + ("gate_up_proj" if len(tensor) > 1 else tensor[0]))
            one = []
            for e in range(E):
                m = Model()
                one.append((fp8((16, 48), "_scale_inv", False)(m, name, n, cols) if kind.endswith("fp8") else plain(0, cols**-0.5, n * cols), m))
                for i, part in enumerate(tensor):
                    values[part, e] = one[e][0][i * rows * cols : (i + 1) * rows * cols]
            if kind.endswith("fp8"):
                for t in (name, name + "_scale_inv"):
                    d, s, _ = one[0][1].t[t]
                    c.add(t, d, [E] + s, b"".join(m.t[t][2] for _, m in one))
            else:
                c.add(name, "BF16", [E, n, cols], b"".join(halves(v) for v, _ in one))
        for (part, e), v in values.items():
            p.add(at + "mlp.experts.%d.%s.weight" % (e, part), "BF16", [rows, cols], halves(v))


KINDS = {
    # family, attention's coder, feed-forward's coder, hidden, inter, heads, head dim, quantization_config
    "fp8": ("qwen3", fp8((48, 40), "_scale_inv", False), None, 72, 530, 3, 24,
            {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [48, 40], "activation_scheme": "dynamic"}),
    "e8m0": ("llama", fp8((128, 128), ".scale", True), fp4, 160, 544, 4, 40, {"quant_method": "fp8", "scale_fmt": "ue8m0"}),
    "int4": ("llama", int4(20), None, 60, 540, 3, 20,
             {"quant_method": "compressed-tensors", "format": "pack-quantized",
              "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "symmetric": True, "group_size": 20}}}}),
    "mxfp4": ("gpt_oss", None, "mxfp4", 64, 544, 2, 32, {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}),
    "c_fp8": ("qwen3_moe", None, "c_fp8", 72, 56, 3, 24, {"quant_method": "fp8", "weight_block_size": [16, 48]}),
    "f_fp8": ("qwen3_moe", None, "f_fp8", 72, 40, 3, 24, {"quant_method": "fp8", "weight_block_size": [16, 48]}),
    "f": ("qwen3_moe", None, "f", 72, 40, 3, 24, None),
}


def main():
    kind, coded, plain_dir = sys.argv[1:4]
    family, attn, ffn, h, inter, heads, d, quant = KINDS[kind]
    ffn = ffn or attn
    V, L = 96, 2
    k = {"h": h, "i": inter, "q": heads * d, "kv": d, "d": d, "qk_norm": family.startswith("qwen3")}
    config = {"model_type": family, "torch_dtype": "bfloat16", "hidden_size": h, "intermediate_size": inter, "num_hidden_layers": L,
              "num_attention_heads": heads, "num_key_value_heads": 1, "head_dim": d, "vocab_size": V, "rms_norm_eps": 1e-6,
              "max_position_embeddings": 4096, "tie_word_embeddings": False, "rope_theta": 10000.0}
    if family == "qwen3_moe":
        config.update(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=inter, norm_topk_prob=True, decoder_sparse_step=1)
    if family == "gpt_oss":
        config.update(num_local_experts=4, num_experts_per_tok=2, sliding_window=8, rope_scaling=None)
    c, p = Model(), Model()
    both(c, p, "model.embed_tokens.weight", [V, h], 0, 1)
    for i in range(L):
        at = "model.layers.%d." % i
        both(c, p, at + "input_layernorm.weight", [h], 1, 0.2)
        both(c, p, at + "post_attention_layernorm.weight", [h], 1, 0.2)
        attention(c, p, at, k, attn)
        if isinstance(ffn, str):
            router = "router" if family == "gpt_oss" else "gate"
            both(c, p, at + "mlp.%s.weight" % router, [4, h], 0, 0.3)
            if family == "gpt_oss":
                both(c, p, at + "mlp.router.bias", [4], 0, 0.3)
                both(c, p, at + "self_attn.sinks", [heads], 0, 1)
            stacked(c, p, at, k, ffn)
            continue
        for n, rows, cols in (("gate_proj", inter, h), ("up_proj", inter, h), ("down_proj", h, inter)):
            linear(c, p, at + "mlp." + n, rows, cols, ffn)
    both(c, p, "model.norm.weight", [h], 1, 0.2)
    both(c, p, "lm_head.weight", [V, h], 0, h**-0.5)
    p.write(plain_dir, config)
    c.write(coded, dict(config, quantization_config=quant) if quant else config)


main()
