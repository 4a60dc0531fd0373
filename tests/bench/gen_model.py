#!/usr/bin/env python3
"""Writes a random bf16 model of Qwen3's shape and token ids to run it on, for measuring speed and memory only.
usage: gen_model.py DIR [--layers N] [--hidden N] [--inter N] [--heads N] [--kv-heads N] [--head-dim N] [--vocab N]
                        [--experts N] [--chosen N] [--expert-inter N] [--texts N] [--tokens N] [--seed N]
--experts: a model of Qwen3-MoE's shape. Standard library only. DIR gets config.json, model.safetensors and tokens.jsonl ({"input_ids": [...]} a line)."""
import argparse
import array
import json
import os
import random
import struct


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("dir")
    for name, value in (("layers", 28), ("hidden", 1024), ("inter", 3072), ("heads", 16), ("kv-heads", 8),
                        ("head-dim", 128), ("vocab", 4096), ("experts", 0), ("chosen", 8), ("expert-inter", 768),
                        ("texts", 16), ("tokens", 165), ("seed", 1)):
        p.add_argument("--" + name, type=int, default=value)
    return p.parse_args()


def bf16_bits(x):
    u = struct.unpack("<I", struct.pack("<f", x))[0]
    return (u + 0x7FFF + ((u >> 16) & 1)) >> 16


class Normals:
    """bf16 pools by standard deviation: drawing every weight one by one would take minutes in plain Python."""

    def __init__(self, rng):
        self.rng = rng
        self.base = [rng.gauss(0, 1) for _ in range(131072 + 32768)]
        self.pools = {}

    def data(self, count, std):
        if std not in self.pools:
            self.pools[std] = array.array("H", (bf16_bits(v * std) for v in self.base))
        pool, out = self.pools[std], bytearray()
        while len(out) < 2 * count:
            at = self.rng.randrange(131072)
            out += pool[at:at + 32768].tobytes()
        return out[:2 * count]


def tensors(a):
    """(name, shape, std); std None: all ones (norms). The scales keep a residual stream of random layers near one."""
    h, i, d = a.hidden, a.inter, a.head_dim
    res = (2 * a.layers) ** -0.5
    yield "model.embed_tokens.weight", (a.vocab, h), 1.0
    for n in range(a.layers):
        p = "model.layers.%d." % n
        yield p + "input_layernorm.weight", (h,), None
        yield p + "self_attn.q_proj.weight", (a.heads * d, h), h ** -0.5
        yield p + "self_attn.k_proj.weight", (a.kv_heads * d, h), h ** -0.5
        yield p + "self_attn.v_proj.weight", (a.kv_heads * d, h), h ** -0.5
        yield p + "self_attn.o_proj.weight", (h, a.heads * d), res * (a.heads * d) ** -0.5
        yield p + "self_attn.q_norm.weight", (d,), None
        yield p + "self_attn.k_norm.weight", (d,), None
        yield p + "post_attention_layernorm.weight", (h,), None
        if a.experts:
            yield p + "mlp.gate.weight", (a.experts, h), h ** -0.5
            i = a.expert_inter
        for part in ["mlp.experts.%d." % e for e in range(a.experts)] or ["mlp."]:
            yield p + part + "gate_proj.weight", (i, h), h ** -0.5
            yield p + part + "up_proj.weight", (i, h), h ** -0.5
            yield p + part + "down_proj.weight", (h, i), res * i ** -0.5
    yield "model.norm.weight", (h,), None
    yield "lm_head.weight", (a.vocab, h), h ** -0.5


def write_model(a, path):
    header, at, plan = {}, 0, list(tensors(a))
    for name, shape, _ in plan:
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + 2 * count]}
        at += 2 * count
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    rng = random.Random(a.seed)
    normals, one = Normals(rng), struct.pack("<H", bf16_bits(1.0))
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, shape, std in plan:
            count = shape[0] * (shape[1] if len(shape) > 1 else 1)
            f.write(one * count if std is None else normals.data(count, std))


def main():
    a = parse()
    os.makedirs(a.dir, exist_ok=True)
    config = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16", "hidden_act": "silu",
        "hidden_size": a.hidden, "intermediate_size": a.inter, "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads, "num_key_value_heads": a.kv_heads, "head_dim": a.head_dim,
        "vocab_size": a.vocab,
        "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "rope_scaling": None,
        "attention_bias": False, "tie_word_embeddings": False, "use_sliding_window": False, "sliding_window": None,
    }
    if a.experts:
        config.update(architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", num_experts=a.experts,
                      num_experts_per_tok=a.chosen, moe_intermediate_size=a.expert_inter, norm_topk_prob=True,
                      decoder_sparse_step=1, mlp_only_layers=[])
    with open(os.path.join(a.dir, "config.json"), "w") as f:
        json.dump(config, f, indent=2)
    write_model(a, os.path.join(a.dir, "model.safetensors"))
    rng = random.Random(a.seed + 1)
    with open(os.path.join(a.dir, "tokens.jsonl"), "w") as f:
        for _ in range(a.texts):
            f.write(json.dumps({"input_ids": [rng.randrange(a.vocab) for _ in range(a.tokens)]}) + "\n")


if __name__ == "__main__":
    main()
