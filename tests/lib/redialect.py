# Writes a model folder in another dialect of checkpoints: redialect.py SOURCE TARGET KIND [KIND...]
# A KIND changes names of tensors, keys of config.json, or the files the tensors lie in; several are applied in turn.
import json, os, re, struct, sys


def load(path):
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head = json.loads(f.read(n))
        data = f.read()
    return {k: (v["dtype"], v["shape"], data[v["data_offsets"][0]:v["data_offsets"][1]])
            for k, v in head.items() if k != "__metadata__"}


def save(path, tensors):
    head, at = {}, 0
    for k, (dtype, shape, b) in tensors.items():
        head[k] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(b)]}
        at += len(b)
    text = json.dumps(head).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(b for _, _, b in tensors.values()))


class Model:
    def __init__(self, src):
        self.t, self.c = load(src + "/model.safetensors"), json.load(open(src + "/config.json"))
        self.text = None   # config.json as text, where json.dump cannot write it
        self.shards = None # file -> names
        self.index = {}    # entries of weight_map that are not as the shards are

    def rename(self, fn):
        self.t = {fn(k): v for k, v in self.t.items()}

    def rekey(self, old, new):
        if old in self.c:
            self.c[new] = self.c.pop(old)


def prefix(body, head):
    def do(m):
        m.rename(lambda k: body + k[6:] if k.startswith("model.") else head + k)
    return do


def nested(m):
    text = m.c
    m.c = {"model_type": "some_vl", "architectures": ["SomeVL"], "text_config": text}


def vision(m):
    m.t["vision_tower.patch.weight"] = ("F32", [4, 4], struct.pack("<16f", *range(1, 17)))
    m.t["visual.layers.0.attn.weight"] = ("F32", [2, 2], struct.pack("<4f", 4, 3, 2, 1))


def deepseek_v4(m):
    """as transformers 5.24 saves it"""
    words = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
    n = m.c["num_hidden_layers"]
    m.c["layer_types"] = [words[r] for r in m.c.pop("compress_ratios")[:n]]
    m.c["compress_rates"] = {words[4]: m.c.pop("compress_rate_csa", 4), words[128]: m.c.pop("compress_rate_hca", 128)}
    hashed = m.c.pop("num_hash_layers", 3)
    m.c["mlp_layer_types"] = ["hash_moe"] * min(n, hashed) + ["moe"] * max(0, n - hashed)
    yarn = m.c.pop("rope_scaling")
    share = m.c["qk_rope_head_dim"] / m.c["head_dim"]
    yarn["rope_type"] = yarn.pop("type")
    m.c["rope_parameters"] = {
        "main": {"rope_type": "default", "rope_theta": m.c["rope_theta"], "partial_rotary_factor": share},
        "compress": dict(yarn, rope_theta=m.c["compress_rope_theta"], partial_rotary_factor=share, attention_factor=1.0)}
    m.c["partial_rotary_factor"] = m.c.pop("qk_rope_head_dim") / m.c["head_dim"]
    def name(k):
        k = re.sub(r"^embed\.", "embed_tokens.", k)
        k = re.sub(r"^hc_head_", "hc_head.hc_", k).replace(".attn.kv_norm.", ".attn.norm.")
        return k if k == "head.weight" else "model." + k
    m.rename(name)


def layer_types(m):
    """DeepSeek-V3.2 and GLM-5: the list that transformers 5.2x saves"""
    m.c["layer_types"] = ["indexed_attention"] * m.c["num_hidden_layers"]


def old_layer_types(m):
    m.c["layer_types"] = ["deepseek_sparse_attention"] * m.c["num_hidden_layers"]


def overlay(m):
    """an edited table in a second shard, which the index names; the first shard's is another one"""
    names, table = sorted(m.t), "model.embed_tokens.weight"
    dtype, shape, data = m.t[table]
    m.shards = {"model-00001-of-00002.safetensors": {k: m.t[k] for k in names},
                "model-00002-of-00002.safetensors": {table: m.t[table]}}
    m.shards["model-00001-of-00002.safetensors"][table] = (dtype, shape, bytes(len(data)))
    m.index[table] = "model-00002-of-00002.safetensors"


def two_shards(m):
    names = sorted(m.t)
    m.shards = {"model-00001-of-00002.safetensors": {k: m.t[k] for k in names[::2]},
                "model-00002-of-00002.safetensors": {k: m.t[k] for k in names[1::2]}}


def names_more(m):
    two_shards(m)
    m.index["mtp.fc.weight"] = "model-00002-of-00002.safetensors"


def names_needed(m):
    two_shards(m)
    name = "model.layers.0.mlp.up_proj.weight"
    for s in m.shards.values():
        s.pop(name, None)
    m.index[name] = "model-00002-of-00002.safetensors"


def no_index(m):
    two_shards(m)
    m.index = None


def key(k, v):
    def do(m):
        m.c[k] = v
    return do


def python_json(m):
    text = json.dumps(m.c)
    m.text = text[:-1] + ', "use_cache": true, "swa": Infinity, "router": [NaN, -Infinity], "hidden_size": 7, ' \
                         '"use_cache": false, "hidden_size": %d}' % m.c["hidden_size"]


def drop(name):
    return lambda m: m.t.pop(name)


def own_head(m):
    dtype, shape, data = m.t["model.embed_tokens.weight"]
    m.t["lm_head.weight"] = (dtype, shape, data[4:] + data[:4])
    m.c["tie_word_embeddings"] = True


def same_head(m):
    m.t["lm_head.weight"] = m.t["model.embed_tokens.weight"]
    m.c["tie_word_embeddings"] = True


def tied(m):
    m.t.pop("lm_head.weight", None)
    m.c["tie_word_embeddings"] = True


def coded(ends, dtype="I32"):
    """a linear coded in a way that is not read: tensors with these ends instead of its weight"""
    def do(m):
        base = "model.layers.0.self_attn.q_proj"
        m.t.pop(base + ".weight")
        for end in ends:
            m.t[base + end] = (dtype, [2], bytes(2 * {"I32": 4, "I8": 1, "U8": 1, "F8_E4M3": 1}[dtype]))
    return do


def scaled(dtype):
    """a weight of one byte a value, and one scale"""
    def do(m):
        base = "model.layers.0.self_attn.q_proj"
        shape = m.t[base + ".weight"][1]
        m.t[base + ".weight"] = (dtype, shape, bytes(shape[0] * shape[1]))
        m.t[base + ".weight_scale"] = ("F32", [1], struct.pack("<f", 1))
    return do


KINDS = {
    "gptq": coded([".qweight", ".qzeros", ".scales", ".g_idx"]), "awq": coded([".qweight", ".qzeros", ".scales"]),
    "bnb4": coded([".weight", ".weight.absmax"], "U8"), "bnb8": coded([".weight", ".SCB"], "I8"), "hqq": coded([".W_q"]),
    "fp8_tensor": scaled("F8_E4M3"), "int8": scaled("I8"),
    "plain": lambda m: None, "bare": prefix("", ""), "language_model": prefix("language_model.model.", "language_model."),
    "model.language_model": prefix("model.language_model.", ""), "language": prefix("language_model.", ""),
    "_orig_mod": prefix("_orig_mod.model.", "_orig_mod."), "module": prefix("module.model.", "module."),
    "base_model": prefix("base_model.model.model.", "base_model.model."), "thinker": prefix("thinker.model.", "thinker."),
    "strange": prefix("a.b.decoder.", "a."), "nested": nested, "vision": vision, "deepseek_v4": deepseek_v4,
    "layer_types": layer_types, "old_layer_types": old_layer_types, "overlay": overlay, "two_shards": two_shards,
    "names_more": names_more, "names_needed": names_needed, "no_index": no_index, "python_json": python_json,
    "no_head": drop("lm_head.weight"), "no_table": drop("model.embed_tokens.weight"), "own_head": own_head,
    "same_head": same_head, "tied": tied,
    "untied": key("tie_word_embeddings", False),
}


def main():
    src, dst, kinds = sys.argv[1], sys.argv[2], sys.argv[3:]
    m = Model(src)
    for kind in kinds:
        if "=" in kind:
            k, v = kind.split("=", 1)
            m.c[k] = json.loads(v)
        elif ":" in kind:
            m.rekey(*kind.split(":", 1))
        else:
            KINDS[kind](m)
    os.makedirs(dst, exist_ok=True)
    with open(dst + "/config.json", "w") as f:
        f.write(m.text or json.dumps(m.c))
    if not m.shards:
        save(dst + "/model.safetensors", m.t)
        return
    for file, tensors in m.shards.items():
        save(dst + "/" + file, tensors)
    if m.index is not None:
        names = {k: f for f, t in m.shards.items() for k in t}
        with open(dst + "/model.safetensors.index.json", "w") as f:
            json.dump({"metadata": {}, "weight_map": dict(names, **m.index)}, f)


main()
