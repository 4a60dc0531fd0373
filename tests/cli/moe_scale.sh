#!/bin/sh
# A model of Qwen3-Next-80B-A3B's size as holes in one sparse file: 24,576 experts open, are counted, planned and refused.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
big=$tmp/big
mkdir "$big"
cat >"$tmp/write.py" <<'EOF'
import json, struct, sys
H, V, L, E, I = 2048, 151936, 48, 512, 512
NK, NV, DK, DV, NH, NKV, D = 16, 32, 128, 128, 16, 2, 256
config = {"model_type": "qwen3_next", "architectures": ["Qwen3NextForCausalLM"], "hidden_size": H, "intermediate_size": 5120,
    "vocab_size": V, "num_hidden_layers": L, "num_attention_heads": NH, "num_key_value_heads": NKV, "head_dim": D,
    "max_position_embeddings": 262144, "partial_rotary_factor": 0.25, "rope_theta": 1e7, "rms_norm_eps": 1e-6,
    "full_attention_interval": 4, "linear_num_key_heads": NK, "linear_num_value_heads": NV, "linear_key_head_dim": DK,
    "linear_value_head_dim": DV, "linear_conv_kernel_dim": 4, "num_experts": E, "num_experts_per_tok": 10,
    "moe_intermediate_size": I, "shared_expert_intermediate_size": I, "norm_topk_prob": True, "decoder_sparse_step": 1,
    "mlp_only_layers": [], "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
json.dump(config, open(sys.argv[1] + "/config.json", "w"))
header, at = {}, 0
def put(name, *shape):
    global at
    n = 2
    for d in shape:
        n *= d
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + n]}
    at += n
def mlp(name, width):
    put(name + ".gate_proj.weight", width, H)
    put(name + ".up_proj.weight", width, H)
    put(name + ".down_proj.weight", H, width)
put("model.embed_tokens.weight", V, H)
put("lm_head.weight", V, H)
put("model.norm.weight", H)
for l in range(L):
    p = "model.layers.%d." % l
    put(p + "input_layernorm.weight", H)
    put(p + "post_attention_layernorm.weight", H)
    if (l + 1) % 4:
        a = p + "linear_attn."
        put(a + "conv1d.weight", 2 * NK * DK + NV * DV, 1, 4)
        put(a + "in_proj_qkvz.weight", 2 * NK * DK + 2 * NV * DV, H)
        put(a + "in_proj_ba.weight", 2 * NV, H)
        put(a + "dt_bias", NV)
        put(a + "A_log", NV)
        put(a + "norm.weight", DV)
        put(a + "out_proj.weight", H, NV * DV)
    else:
        a = p + "self_attn."
        put(a + "q_proj.weight", 2 * NH * D, H)
        put(a + "k_proj.weight", NKV * D, H)
        put(a + "v_proj.weight", NKV * D, H)
        put(a + "o_proj.weight", H, NH * D)
        put(a + "q_norm.weight", D)
        put(a + "k_norm.weight", D)
    put(p + "mlp.gate.weight", E, H)
    for e in range(E):
        mlp(p + "mlp.experts.%d" % e, I)
    mlp(p + "mlp.shared_expert", I)
    put(p + "mlp.shared_expert_gate.weight", 1, H)
text = json.dumps(header).encode()
with open(sys.argv[1] + "/model.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text)
    f.truncate(8 + len(text) + at)
EOF
if ! python3 "$tmp/write.py" "$big" 2>"$tmp/log"; then
    skip "a file of 160 GB" "no sparse files of that size here: $(tail -n 1 "$tmp/log")"
    finish
fi
printf '{"input_ids":[1,2,3,4,5,6,7,8]}\n{"input_ids":[9,10,11]}\n' >"$tmp/ids.jsonl"
exits 0 "info" s info "$big"
has "$tmp/out" "Qwen 3 Next (qwen3_next): 48 layers" "names the family"
has "$tmp/out" "linears       74,124, 74,124 can be quantized" "counts the linears"
has "$tmp/out" "48 experts (73,728 linears)" "and the groups of experts"
grep -q '^parameters *79\.[0-9]* billion\|^parameters *79,6[0-9][0-9],' "$tmp/out" && ok "80 billion parameters" || { not_ok "80 billion parameters"; grep parameters "$tmp/out"; }
has "$tmp/out" "memory        for 16,384 tokens" "plans"
# opening reads headers, and the table's commands no weight either
printf 'open %s\ncalib %s\nfilter kind=router\nexclude *mlp.gate\nundo\nquit\n' "$big" "$tmp/ids.jsonl" >"$tmp/s.slim"
exits 0 "a script edits it" s --script "$tmp/s.slim"
# the planner refuses before a weight is read, and says by how much
exits 1 "analyze in 80M" s analyze --model_path "$big" --calib_dataset "$tmp/ids.jsonl" --mem 80M
has "$tmp/err" "raise --mem" "is refused with what to do"
is 1 "$(grep -c 'raise --mem' "$tmp/err")" "in one line"
exits 1 "measure in 120M" s measure --model_path "$big" --calib_dataset "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl" --mem 120M
has "$tmp/err" "raise --mem" "is refused with what to do, too"
finish
