#!/usr/bin/env python3
"""family_headers.py OUT [EXPERTS]: for every family that lab_practice has a folder of, OUT/PEDIGREE with the config.json and the
safetensors header of a real model: its names, its shapes and its layers, but EXPERTS (16) routed experts a block so that the test
is quick. The file behind a header is one hole: no weight is ever read."""
import json
import os
import struct
import sys

OUT = sys.argv[1]
EXPERTS = int(sys.argv[2]) if len(sys.argv) > 2 else 16


class Writer:
    def __init__(self, folder, config, bare=False):
        self.c, self.header, self.at = dict(config, tie_word_embeddings=False, torch_dtype="bfloat16"), {}, 0
        self.folder = os.path.join(OUT, folder)
        self.prefix = "" if bare else "model."
        h, v = config["hidden_size"], config["vocab_size"]
        self.h = h
        self.put("embed" if bare else "model.embed_tokens", v, h)
        self.put("head" if bare else "lm_head", v, h)
        self.put("norm" if bare else "model.norm", h)

    def put(self, name, *shape, dtype="BF16", suffix=".weight"):
        n = {"BF16": 2, "F32": 4, "I64": 8}[dtype]
        for d in shape:
            n *= d
        self.header[name + suffix] = {"dtype": dtype, "shape": shape, "data_offsets": [self.at, self.at + n]}
        self.at += n

    def layer(self, i):
        return "%slayers.%d." % (self.prefix, i)

    def norms(self, p, suffix=""):
        self.put(p + "input_layernorm" + suffix, self.h)
        self.put(p + "post_attention_layernorm" + suffix, self.h)

    def mlp(self, p, width, names=("gate_proj", "up_proj", "down_proj")):
        for name in names[:2]:
            self.put(p + "." + name, width, self.h)
        self.put(p + "." + names[2], self.h, width)

    def experts(self, p, width, names=("gate_proj", "up_proj", "down_proj")):
        for e in range(EXPERTS):
            self.mlp("%s.experts.%d" % (p, e), width, names)

    def router(self, p, bias=None, n=EXPERTS):
        self.put(p, n, self.h)
        if bias:
            self.put(bias, n, dtype="F32", suffix="")

    def attention(self, p, heads, kv, dim, bias=False, qk_norm=None, gate=False):
        for name, rows in (("q_proj", heads * dim * (2 if gate else 1)), ("k_proj", kv * dim), ("v_proj", kv * dim)):
            self.put(p + name, rows, self.h)
            if bias:
                self.put(p + name, rows, suffix=".bias")
        self.put(p + "o_proj", self.h, heads * dim)
        if qk_norm:
            self.put(p + "q_norm", dim * (heads if qk_norm == "full" else 1))
            self.put(p + "k_norm", dim * (kv if qk_norm == "full" else 1))

    def latent(self, p):
        c = self.c
        heads, q, r = c["num_attention_heads"], c["q_lora_rank"], c["kv_lora_rank"]
        nope, rope, v = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        self.put(p + "q_a_proj", q, self.h)
        self.put(p + "q_a_layernorm", q)
        self.put(p + "q_b_proj", heads * (nope + rope), q)
        self.put(p + "kv_a_proj_with_mqa", r + rope, self.h)
        self.put(p + "kv_a_layernorm", r)
        self.put(p + "kv_b_proj", heads * (nope + v), r)
        self.put(p + "o_proj", self.h, heads * v)
        if "index_n_heads" in c:
            n, d = c["index_n_heads"], c["index_head_dim"]
            self.put(p + "indexer.wq_b", n * d, q)
            self.put(p + "indexer.wk", d, self.h)
            self.put(p + "indexer.k_norm", d)
            self.put(p + "indexer.k_norm", d, suffix=".bias")
            self.put(p + "indexer.weights_proj", n, self.h)

    def write(self):
        os.makedirs(self.folder)
        with open(os.path.join(self.folder, "config.json"), "w") as f:
            json.dump(self.c, f)
        text = json.dumps(self.header).encode()
        text += b" " * (-len(text) % 8)
        with open(os.path.join(self.folder, "model.safetensors"), "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            f.truncate(8 + len(text) + self.at)


def config(model_type, hidden, inter, layers, heads, kv, vocab, **more):
    return dict(more, model_type=model_type, hidden_size=hidden, intermediate_size=inter, num_hidden_layers=layers,
                num_attention_heads=heads, num_key_value_heads=kv, vocab_size=vocab, rms_norm_eps=1e-6, rope_theta=1e6,
                hidden_act="silu", max_position_embeddings=131072)


def dense(folder, c, bias=False, qk_norm=None):
    w = Writer(folder, c)
    for i in range(c["num_hidden_layers"]):
        p = w.layer(i)
        w.norms(p)
        w.attention(p + "self_attn.", c["num_attention_heads"], c["num_key_value_heads"], 128, bias, qk_norm)
        w.mlp(p + "mlp", c["intermediate_size"])
    w.write()


def latent(folder, c):
    """DeepSeek-V3 and what is shaped like it."""
    c = dict(c, n_routed_experts=EXPERTS, num_experts_per_tok=8, n_shared_experts=1, norm_topk_prob=True, scoring_func="sigmoid",
             topk_method="noaux_tc", routed_scaling_factor=2.5, kv_lora_rank=512, qk_rope_head_dim=64)
    w = Writer(folder, c)
    for i in range(c["num_hidden_layers"]):
        p = w.layer(i)
        w.norms(p)
        w.latent(p + "self_attn.")
        block(w, p + "mlp", i)
    w.write()


def block(w, p, i):
    """The feed-forward part of DeepSeek-V3 and GLM-4.5."""
    c = w.c
    if i < c["first_k_dense_replace"]:
        w.mlp(p, c["intermediate_size"])
        return
    w.router(p + ".gate", p + ".gate.e_score_correction_bias")
    w.experts(p, c["moe_intermediate_size"])
    w.mlp(p + ".shared_experts", c["moe_intermediate_size"])


def qwen3_moe():
    c = config("qwen3_moe", 2048, 6144, 48, 32, 4, 151936, head_dim=128, num_experts=EXPERTS, num_experts_per_tok=8,
               norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], moe_intermediate_size=768)
    w = Writer("qwen3_moe", c)
    for i in range(48):
        p = w.layer(i)
        w.norms(p)
        w.attention(p + "self_attn.", 32, 4, 128, qk_norm="head")
        w.router(p + "mlp.gate")
        w.experts(p + "mlp", 768)
    w.write()


def qwen3_next():
    nk, nv, dim = 16, 32, 128
    c = config("qwen3_next", 2048, 5120, 48, 16, 2, 151936, head_dim=256, partial_rotary_factor=0.25, full_attention_interval=4,
               linear_num_key_heads=nk, linear_num_value_heads=nv, linear_key_head_dim=dim, linear_value_head_dim=dim,
               linear_conv_kernel_dim=4, num_experts=EXPERTS, num_experts_per_tok=10, norm_topk_prob=True, decoder_sparse_step=1,
               mlp_only_layers=[], moe_intermediate_size=512, shared_expert_intermediate_size=512)
    w = Writer("qwen3_next", c)
    for i in range(48):
        p = w.layer(i)
        w.norms(p)
        if (i + 1) % 4:
            a = p + "linear_attn."
            w.put(a + "conv1d", (2 * nk + nv) * dim, 1, 4)
            w.put(a + "in_proj_qkvz", (2 * nk + 2 * nv) * dim, w.h)
            w.put(a + "in_proj_ba", 2 * nv, w.h)
            w.put(a + "dt_bias", nv, suffix="")
            w.put(a + "A_log", nv, suffix="")
            w.put(a + "norm", dim)
            w.put(a + "out_proj", w.h, nv * dim)
        else:
            w.attention(p + "self_attn.", 16, 2, 256, qk_norm="head", gate=True)
        w.router(p + "mlp.gate")
        w.experts(p + "mlp", 512)
        w.mlp(p + "mlp.shared_expert", 512)
        w.put(p + "mlp.shared_expert_gate", 1, w.h)
    w.write()


def mixtral():
    c = config("mixtral", 4096, 14336, 32, 32, 8, 32000, num_local_experts=EXPERTS, num_experts_per_tok=2)
    w = Writer("mixtral", c)
    for i in range(32):
        p = w.layer(i)
        w.norms(p)
        w.attention(p + "self_attn.", 32, 8, 128)
        w.router(p + "block_sparse_moe.gate")
        w.experts(p + "block_sparse_moe", 14336, ("w1", "w3", "w2"))
    w.write()


def qwen2_moe():
    c = config("qwen2_moe", 3584, 18944, 28, 28, 4, 151936, num_experts=EXPERTS, num_experts_per_tok=8, norm_topk_prob=False,
               decoder_sparse_step=1, mlp_only_layers=[], moe_intermediate_size=2560, shared_expert_intermediate_size=20480)
    w = Writer("qwen2_moe", c)
    for i in range(28):
        p = w.layer(i)
        w.norms(p)
        w.attention(p + "self_attn.", 28, 4, 128, bias=True)
        w.router(p + "mlp.gate")
        w.experts(p + "mlp", 2560)
        w.mlp(p + "mlp.shared_expert", 20480)
        w.put(p + "mlp.shared_expert_gate", 1, w.h)
    w.write()


def deepseek_v2():
    c = config("deepseek_v2", 5120, 12288, 60, 128, 128, 102400, n_routed_experts=EXPERTS, num_experts_per_tok=6,
               n_shared_experts=2, norm_topk_prob=False, scoring_func="softmax", topk_method="group_limited_greedy", n_group=8,
               topk_group=3, routed_scaling_factor=16.0, moe_intermediate_size=1536, first_k_dense_replace=1, q_lora_rank=1536,
               kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128)
    w = Writer("deepseek_v2", c)
    for i in range(60):
        p = w.layer(i)
        w.norms(p)
        w.latent(p + "self_attn.")
        if i < 1:
            w.mlp(p + "mlp", 12288)
            continue
        w.router(p + "mlp.gate")
        w.experts(p + "mlp", 1536)
        w.mlp(p + "mlp.shared_experts", 2 * 1536)
    w.write()


def gpt_oss():
    inter = 2880
    c = config("gpt_oss", 2880, inter, 36, 64, 8, 201088, head_dim=64, num_local_experts=EXPERTS, num_experts_per_tok=4,
               sliding_window=128, attention_bias=True)
    w = Writer("gpt_oss", c)
    for i in range(36):
        p = w.layer(i)
        w.norms(p)
        w.attention(p + "self_attn.", 64, 8, 64, bias=True)
        w.put(p + "self_attn.o_proj", w.h, suffix=".bias")
        w.put(p + "self_attn.sinks", 64, suffix="")
        w.put(p + "mlp.router", EXPERTS, w.h)
        w.put(p + "mlp.router", EXPERTS, suffix=".bias")
        for name, n, m in (("gate_up_proj", w.h, 2 * inter), ("down_proj", inter, w.h)):
            w.put(p + "mlp.experts." + name, EXPERTS, n, m, suffix="")
            w.put(p + "mlp.experts." + name, EXPERTS, m, suffix="_bias")
    w.write()


def glm4_moe():
    c = config("glm4_moe", 5120, 12288, 92, 96, 8, 151552, head_dim=128, partial_rotary_factor=0.5, attention_bias=True,
               use_qk_norm=True, n_routed_experts=EXPERTS, n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=3,
               n_group=1, topk_group=1, norm_topk_prob=True, routed_scaling_factor=2.5, moe_intermediate_size=1536)
    w = Writer("glm4_moe", c)
    for i in range(92):
        p = w.layer(i)
        w.norms(p)
        w.attention(p + "self_attn.", 96, 8, 128, bias=True, qk_norm="head")
        block(w, p + "mlp", i)
    w.write()


def minimax_m2():
    c = config("minimax_m2", 3072, 1536, 62, 48, 8, 200064, head_dim=128, rotary_dim=64, num_local_experts=EXPERTS,
               num_experts_per_tok=8, use_qk_norm=True)
    w = Writer("minimax_m2", c)
    for i in range(62):
        p = w.layer(i)
        w.norms(p)
        w.attention(p + "self_attn.", 48, 8, 128, qk_norm="full")
        w.router(p + "block_sparse_moe.gate", p + "block_sparse_moe.e_score_correction_bias")
        w.experts(p + "block_sparse_moe", 1536, ("w1", "w3", "w2"))
    w.write()


def longcat_flash():
    c = config("longcat_flash", 6144, 0, 28, 64, 64, 131072, num_layers=28, ffn_hidden_size=12288, expert_ffn_hidden_size=2048,
               moe_topk=12, n_routed_experts=EXPERTS, zero_expert_num=8, routed_scaling_factor=6.0, q_lora_rank=1536,
               kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128)
    del c["intermediate_size"], c["num_hidden_layers"]
    w = Writer("longcat_flash", c)
    for i in range(28):
        p = w.layer(i)
        for half in (0, 1):
            w.norms(p, ".%d" % half)
            w.latent(p + "self_attn.%d." % half)
            w.mlp(p + "mlps.%d" % half, 12288)
        w.router(p + "mlp.router.classifier", p + "mlp.router.e_score_correction_bias", EXPERTS + 8)
        w.experts(p + "mlp", 2048)
    w.write()


def deepseek_v4():
    layers, heads, dim, q, groups, rank, copies, inner = 43, 64, 512, 1024, 8, 1024, 4, 2048
    ratios = [0, 0] + [4 if i % 2 == 0 else 128 for i in range(2, layers)]
    c = config("deepseek_v4", 4096, 0, layers, heads, 1, 129280, head_dim=dim, qk_rope_head_dim=64, moe_intermediate_size=inner,
               q_lora_rank=q, n_routed_experts=EXPERTS, n_shared_experts=1, num_experts_per_tok=6, scoring_func="sqrtsoftplus",
               norm_topk_prob=True, routed_scaling_factor=1.5, compress_ratios=ratios, hc_mult=copies, num_hash_layers=3,
               swiglu_limit=10.0, sliding_window=128, o_groups=groups, o_lora_rank=rank, index_n_heads=64, index_head_dim=128,
               index_topk=512, compress_rope_theta=160000.0)
    del c["intermediate_size"]
    w = Writer("deepseek_v4", c, bare=True)
    for name, n in (("hc_head_base", (copies,)), ("hc_head_fn", (copies, copies * w.h)), ("hc_head_scale", (1,))):
        w.put(name, *n, dtype="F32", suffix="")
    experts = ("w1", "w3", "w2")
    for i, ratio in enumerate(ratios):
        p = w.layer(i)
        a, mixed = p + "attn.", copies * (2 + copies)
        w.put(p + "attn_norm", w.h)
        w.put(p + "ffn_norm", w.h)
        for part in ("attn", "ffn"):
            w.put(p + "hc_%s_fn" % part, mixed, copies * w.h, dtype="F32", suffix="")
            w.put(p + "hc_%s_base" % part, mixed, dtype="F32", suffix="")
            w.put(p + "hc_%s_scale" % part, 3, dtype="F32", suffix="")
        w.put(a + "wq_a", q, w.h)
        w.put(a + "q_norm", q)
        w.put(a + "wq_b", heads * dim, q)
        w.put(a + "wkv", dim, w.h)
        w.put(a + "kv_norm", dim)
        w.put(a + "wo_a", groups * rank, heads * dim // groups)
        w.put(a + "wo_b", w.h, groups * rank)
        w.put(a + "attn_sink", heads, dtype="F32", suffix="")
        parts = [("compressor.", dim)] if ratio else []
        if ratio == 4:
            parts.append(("indexer.compressor.", 128))
            w.put(a + "indexer.wq_b", 64 * 128, q)
            w.put(a + "indexer.weights_proj", 64, w.h)
        for name, width in parts:
            rows = width * (2 if ratio == 4 else 1)
            w.put(a + name + "wkv", rows, w.h)
            w.put(a + name + "wgate", rows, w.h)
            w.put(a + name + "norm", width)
            w.put(a + name + "ape", ratio, rows, dtype="F32", suffix="")
        w.put(p + "ffn.gate", EXPERTS, w.h)
        if i < 3:
            w.put(p + "ffn.gate.tid2eid", 129280, 6, dtype="I64", suffix="")
        else:
            w.put(p + "ffn.gate", EXPERTS, dtype="F32", suffix=".bias")
        w.experts(p + "ffn", inner, experts)
        w.mlp(p + "ffn.shared_experts", inner, experts)
    w.write()


def main():
    dense("default", config("mistral", 4096, 14336, 32, 32, 8, 128256))
    dense("llama", config("llama", 4096, 14336, 32, 32, 8, 128256))
    dense("qwen2", config("qwen2", 3584, 18944, 28, 28, 4, 152064), bias=True)
    for folder in ("qwen2_5", "qwq"):
        dense(folder, config("qwen2", 5120, 27648, 64, 40, 8, 152064), bias=True)
    dense("qwen3", config("qwen3", 4096, 12288, 36, 32, 8, 151936, head_dim=128), qk_norm="head")
    deepseek = dict(q_lora_rank=1536, qk_nope_head_dim=128, v_head_dim=128, first_k_dense_replace=3, moe_intermediate_size=2048,
                    n_group=8, topk_group=4)
    index = dict(index_n_heads=64, index_head_dim=128, index_topk=2048)
    glm = dict(q_lora_rank=2048, qk_nope_head_dim=192, v_head_dim=256, n_group=1, topk_group=1)
    latent("deepseek_v3", config("deepseek_v3", 7168, 18432, 61, 128, 128, 129280, **deepseek))
    latent("deepseek_v3_2", config("deepseek_v32", 7168, 18432, 61, 128, 128, 129280, **deepseek, **index))
    latent("glm_5", config("glm_moe_dsa", 6144, 12288, 78, 64, 64, 154880, **glm, index_n_heads=32, index_head_dim=128,
                           index_topk=2048, first_k_dense_replace=3, moe_intermediate_size=2048))
    latent("kimi_k2", config("kimi_k2", 7168, 18432, 61, 64, 64, 163840,
                             **dict(deepseek, first_k_dense_replace=1, n_group=1, topk_group=1)))
    latent("glm4_moe_lite", config("glm4_moe_lite", 2048, 10240, 47, 20, 20, 154880,
                                   **dict(glm, q_lora_rank=768), first_k_dense_replace=1, moe_intermediate_size=1536))
    for family in (mixtral, qwen2_moe, deepseek_v2, gpt_oss, qwen3_moe, qwen3_next, glm4_moe, minimax_m2, longcat_flash, deepseek_v4):
        family()


main()
