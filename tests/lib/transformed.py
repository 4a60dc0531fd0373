"""What a trained output is held to: usage MODEL WANT GOT IDS ROOM. The two outputs have the same tensors, by name, dtype and shape, and
each layer's output as an engine would compute it, of the tokens IDS, is as near to the float layer's as the recorded output's,
but for a factor of ROOM on average: prints what isn't so. Plain Python: quantized Qwen3 models of a few thousand values alone."""
import glob
import json
import math
import struct
import sys

GRID = [0, .5, 1, 1.5, 2, 3, 4, 6]


def load(folder):
    out = {}
    for path in sorted(glob.glob(folder + "/*.safetensors")):
        data = open(path, "rb").read()
        size = struct.unpack("<Q", data[:8])[0]
        for name, t in json.loads(data[8:8 + size]).items():
            if name == "__metadata__":
                continue
            raw = data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]]
            if t["dtype"] == "BF16":
                v = [struct.unpack("<f", b"\0\0" + raw[i:i + 2])[0] for i in range(0, len(raw), 2)]
            else:
                kind = {"F32": "f", "I8": "b", "U8": "B"}[t["dtype"]]
                v = list(struct.unpack("<%d%s" % (len(raw) // struct.calcsize(kind), kind), raw))
            out[name] = (t["dtype"], t["shape"], v)
    return out


def rows(t):
    _, (n, k), v = t
    return [v[i * k:(i + 1) * k] for i in range(n)]


def product(x, w):
    return [[sum(a * b for a, b in zip(row, o)) for o in w] for row in x]


def fake_int(row, most):
    s = max(max(map(abs, row)) / most, 1e-30)
    return [max(-most - 1, min(most, round(v / s))) * s for v in row]


def fake_mx(row):
    out = []
    for at in range(0, len(row), 32):
        block = row[at:at + 32]
        e = math.floor(math.log2(max(map(abs, block)) / .875 + 9.6e-7)) - 2
        for v in block:
            b = abs(v) / 2.0 ** e
            p = max(0, min(2, math.floor(math.log2(b + 9.6e-7))))
            out.append(math.copysign(min(math.floor(b / 2 ** p * 2 + .5) / 2 * 2 ** p, 6) * 2.0 ** e, v))
    return out


class Output:
    """A model, float or as an output of ascendv1_saver has it."""

    def __init__(self, model, config, quantized):
        self.t, self.config, self.quantized = model, config, quantized

    def weight(self, name):
        kind, shape, v = self.t[name + ".weight"]
        if kind == "BF16":
            return rows(self.t[name + ".weight"])
        scale = rows(self.t[name + ".weight_scale"])
        if kind == "I8":
            return [[q * s[0] for q in row] for row, s in zip(rows(self.t[name + ".weight"]), scale)]
        out = []
        for row, s in zip(rows(self.t[name + ".weight"]), scale):
            codes = [c for b in row for c in (b & 15, b >> 4)]
            out.append([GRID[c & 7] * (-1 if c & 8 else 1) * 2.0 ** (s[i // 32] - 127) for i, c in enumerate(codes)])
        return out

    def transform(self, name, row):
        left, right = self.t.get(name + ".left_trans"), self.t.get(name + ".right_trans")
        if not left:
            return row
        n = left[1][0]
        k = len(row) // n
        m = [row[i * k:(i + 1) * k] for i in range(n)]
        if right:
            r = rows(right)
            m = [[sum(x[j] * r[j][c] for j in range(k)) for c in range(k)] for x in m]
        a = rows(left)
        m = [[sum(a[j][i] * m[j][c] for j in range(n)) for c in range(k)] for i in range(n)]
        most = max(abs(v) for x in m for v in x) * self.t[name + ".clip_ratio"][2][0]
        return [max(-most, min(most, v)) for x in m for v in x]

    def linear(self, name, x):
        if self.quantized:
            kind, _, codes = self.t[name + ".weight"]
            most = 7 if max(map(abs, codes)) <= 8 else 127  # inputs have as many bits as the weight
            x = [self.transform(name, row) for row in x]
            x = [fake_mx(row) if kind == "U8" else fake_int(row, most) for row in x]
        return product(x, self.weight(name))

    def norm(self, name, x):
        w = self.t[name + ".weight"][2]
        out = []
        for row in x:
            s = math.sqrt(sum(v * v for v in row) / len(row) + self.config["rms_norm_eps"])
            out.append([v / s * g for v, g in zip(row, w)])
        return out

    def heads(self, x, norm):
        d = self.config["head_dim"]
        theta = self.config["rope_theta"]
        out = []
        for t, row in enumerate(x):
            heads = [row[i:i + d] for i in range(0, len(row), d)]
            if norm:
                heads = self.norm(norm, heads)
                for h in heads:
                    for i in range(d // 2):
                        a = t * theta ** (-2 * i / d)
                        p, q = h[i], h[i + d // 2]
                        h[i], h[i + d // 2] = p * math.cos(a) - q * math.sin(a), q * math.cos(a) + p * math.sin(a)
            out.append(heads)
        return out

    def attention(self, p, x):
        q = self.heads(self.linear(p + "q_proj", x), p + "q_norm")
        k = self.heads(self.linear(p + "k_proj", x), p + "k_norm")
        v = self.heads(self.linear(p + "v_proj", x), None)
        group, d = len(q[0]) // len(k[0]), len(q[0][0])
        out = []
        for t in range(len(x)):
            row = []
            for h in range(len(q[0])):
                s = [sum(a * b for a, b in zip(q[t][h], k[u][h // group])) / math.sqrt(d) for u in range(t + 1)]
                e = [math.exp(a - max(s)) for a in s]
                row += [sum(e[u] * v[u][h // group][i] for u in range(t + 1)) / sum(e) for i in range(d)]
            out.append(row)
        return self.linear(p + "o_proj", out)

    def layer(self, i, x):
        p = "model.layers.%d." % i
        y = self.attention(p + "self_attn.", self.norm(p + "input_layernorm", x))
        x = [[a + b for a, b in zip(r, s)] for r, s in zip(x, y)]
        h = self.norm(p + "post_attention_layernorm", x)
        gate, up = self.linear(p + "mlp.gate_proj", h), self.linear(p + "mlp.up_proj", h)
        act = [[g / (1 + math.exp(-g)) * u for g, u in zip(a, b)] for a, b in zip(gate, up)]
        y = self.linear(p + "mlp.down_proj", act)
        return [[a + b for a, b in zip(r, s)] for r, s in zip(x, y)]


def error(a, b):
    return sum((u - v) ** 2 for r, s in zip(a, b) for u, v in zip(r, s))


def main(model, want, got, ids, room):
    config = json.load(open(model + "/config.json"))
    plain, a, b = load(model), load(want), load(got)
    if list(a) != list(b) or any(a[n][:2] != b[n][:2] for n in a):
        return print("tensors of other names, types or shapes")
    table = rows(plain["model.embed_tokens.weight"])
    x, ratio = [table[i] for i in ids], 0
    for i in range(config["num_hidden_layers"]):
        y = Output(plain, config, False).layer(i, x)
        ratio += error(Output(b, config, True).layer(i, x), y) / error(Output(a, config, True).layer(i, x), y)
        x = y
    ratio /= config["num_hidden_layers"]
    if not ratio <= float(room):
        print("layers lose %.3f times what the recorded ones do" % ratio)


main(sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4]), sys.argv[5])
