#!/bin/sh
# asan: yes
# The engines' rules wherever a recipe meets a model: told, and errors with --runtime before anything is written.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
D=$tmp/ids.jsonl
printf '{"input_ids":[11,56,30,21,14,27,8,16,9,3]}\n{"input_ids":[12,5,15,28,7,19,5,15,6,7]}\n' >"$D"
M=tests/golden/models/qwen3/fp32
# recipe FILE EXCLUDE [SAVER]: W8A8 by token
recipe() {
    cat >"$1" <<-END
	apiversion: modelslim_v1
	spec:
	  dataset: ids.jsonl
	  process:
	    - type: linear_quant
	      qconfig:
	        act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}
	        weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}
	      include: ["*"]
	      exclude: $2
	  save:
	    - type: ${3:-ascendv1_saver}
	END
}
recipe "$tmp/gate-star.yaml" '["*down_proj*", "*gate*"]'
recipe "$tmp/no-hit.yaml" '["re:.*down_proj", "model.layers.0", "model.layers.0.mlp.down_proj.weight", "down_proj"]'
recipe "$tmp/good.yaml" '["*down_proj", "*layers.0.*"]'
split="vllm-ascend split-group: 3 fused groups split, first at model.layers.0.mlp.gate_proj (float) and model.layers.0.mlp.up_proj (W8A8_DYNAMIC)"
nohit="no-hit: 4 of 4 patterns select no layer: 're:.*down_proj' (nearest: '*down_proj'), 'model.layers.0' (nearest: 'model.layers.0.*')"

# told TEXT NAME COMMAND...: it ends well and stderr warns of the text, once
told() {
    text=$1 name=$2; shift 2
    exits 0 "$name goes on" "$@"
    has "$tmp/err" "warning: $text" "and warns"
    is 1 "$(grep -cF -- "$text" "$tmp/err")" "once"
}
for r in gate-star no-hit; do
    [ $r = no-hit ] && text=$nohit || text=$split
    told "$text" "quant --dry-run of $r" s quant --model_path $M --config_path "$tmp/$r.yaml" --save_path "$tmp/dry" --dry-run
    told "$text" "quant of $r" s quant --model_path $M --config_path "$tmp/$r.yaml" --save_path "$tmp/$r"
    told "$text" "measure of $r" s measure --model_path $M --recipe "$tmp/$r.yaml" --calib_dataset "$D" --eval "$D"
    exits 0 "check of model and $r" s check $M "$tmp/$r.yaml"
    has "$tmp/out" "with $M: $text" "knows it"
    exits 0 "check of model and $r in JSON" s check $M "$tmp/$r.yaml" --format json
    python3 - "$tmp/out" $r >"$tmp/py" 2>&1 <<-'END' && ok "has it as data" || { not_ok "has it as data"; sed 's/^/# /' "$tmp/py"; }
	import json, sys
	f = json.load(open(sys.argv[1]))["paths"][1]["findings"]
	want = {"gate-star": ("split-group", "vllm-ascend", 3, "model.layers.0.mlp.gate_proj"), "no-hit": ("no-hit", "any", 4, None)}
	assert [(x["rule"], x["engine"], x["count"], x.get("first")) for x in f] == [want[sys.argv[2]]], f
	assert f[0]["verdict"] == "note" and f[0]["model"].endswith("qwen3/fp32")
	END
    for verb in "quant --save_path $tmp/must --config_path" "quant --dry-run --config_path" "measure --calib_dataset $D --eval $D --recipe"; do
        # shellcheck disable=SC2086
        exits 65 "${verb%% *} --runtime with $r is refused" s ${verb%% *} --model_path $M --runtime vllm-ascend ${verb#* } "$tmp/$r.yaml"
        has "$tmp/err" "slimscope: $text" "by the rule"
    done
    exits 65 "check --runtime with $r is bad" s check $M "$tmp/$r.yaml" --runtime vllm-ascend
    [ ! -e "$tmp/must" ] && ok "and nothing is made" || not_ok "and nothing is made"
done
exits 0 "check of recipes alone" s check "$tmp/gate-star.yaml" "$tmp/no-hit.yaml"
has "$tmp/out" "in a layer of the usual names 1 fused group split" "sees what splits groups anywhere"
has "$tmp/out" "4 of 4 patterns select no layer of any model: 're:.*down_proj' ('re:' is no prefix here" "and what selects nothing anywhere"
exits 0 "a recipe that all is well with" s quant --model_path $M --config_path "$tmp/good.yaml" --save_path "$tmp/good" --runtime vllm-ascend
grep -q "warning" "$tmp/err" && not_ok "is not warned of" || ok "is not warned of"
exits 65 "an engine that doesn't read the format" s quant --model_path $M --config_path "$tmp/good.yaml" --save_path "$tmp/must" --runtime vllm
has "$tmp/err" "vllm format: reads what compressed_tensors writes, not ascendv1_saver" "is told what it reads"
exits 64 "an engine that is none" s quant --model_path $M --config_path "$tmp/good.yaml" --save_path "$tmp/must" --runtime cuda
# --compat peer warns and writes the same bytes
told "$split" "quant --compat peer" s quant --model_path $M --config_path "$tmp/gate-star.yaml" --save_path "$tmp/peer" --compat peer

# ---- what --quant_type finds for families with experts ----
# lookup FAMILY TYPE: nothing to warn of; the levels are in $tmp/out
lookup() {
    exits 0 "$1 $2 is found" s quant --model_path "tests/golden/models/$1/fp32" --quant_type "$2" --yes --dry-run --format json --runtime vllm-ascend
    grep -q "warning" "$tmp/err" && not_ok "without a warning" || ok "without a warning"
}
lookup mixtral w8a8
has "$tmp/out" '{"level":"float","linears":3,' "the routers are float"
lookup qwen2_moe w8a8
has "$tmp/out" '"patterns":["*{gate,shared_expert_gate}"]' "routers and shared gates are float"
lookup qwen2_moe w4a8
lookup mixtral w8a16
lookup gpt_oss w4a8
lookup minimax_m2 w8a8c8
lookup deepseek_v3 w8a16

# ---- in the language: set runtime=, export ----
printf 'open %s\nrecipe %s\nexport %s\n' $M "$tmp/gate-star.yaml" "$tmp/e.yaml" >"$tmp/1.slim"
exits 1 "export of a split group blocks" s --script "$tmp/1.slim"
has "$tmp/err" "[!!] $split" "as its checks say"
printf 'open %s\nrecipe %s\nset runtime=vllm-ascend\nexport %s\n' $M "$tmp/no-hit.yaml" "$tmp/e.yaml" >"$tmp/2.slim"
exits 65 "with a runtime so does what selects nothing" s --script "$tmp/2.slim"
has "$tmp/err" "[!!] $nohit" "as its checks say"
[ ! -e "$tmp/e.yaml" ] && ok "nothing was written" || not_ok "nothing was written"
printf 'open %s\nrecipe %s\nexport %s\n' $M "$tmp/no-hit.yaml" "$tmp/e.yaml" >"$tmp/3.slim"
exits 0 "without one it is written" s --script "$tmp/3.slim"
has "$tmp/err" "[..] $nohit" "and told"
has "$tmp/err" "[..] nothing was measured" "that nothing was measured, too"
printf 'open %s\ncalib %s\nset ctx=8\nexclude *.0.mlp.down_proj\nexport %s\n' $M "$D" "$tmp/one.yaml" >"$tmp/4.slim"
exits 0 "one pattern" s --script "$tmp/4.slim"
has "$tmp/err" "[ok] 1 pattern, which selects at least one layer" "is counted without the include of all"
printf 'open %s\nexclude *.0.mlp.down_proj\nexclude *.1.mlp.down_proj\nexclude *.2.mlp.down_proj\nexport %s\n' $M "$tmp/three.yaml" >"$tmp/5.slim"
exits 0 "three rows" s --script "$tmp/5.slim"
has "$tmp/err" "[ok] 3 what-if rows are written as 1 pattern that selects the same" "that become one pattern are told"
printf 'open %s\nexclude *layers.0.self_attn.q_a_proj\nexport %s\n' tests/golden/models/deepseek_v3/fp32 "$tmp/qa.yaml" >"$tmp/6.slim"
exits 0 "q_a_proj goes with kv_a_proj_with_mqa" s --script "$tmp/6.slim"
has "$tmp/err" "2 linears sent to float" "both are sent"
printf 'open %s\nscreen whatif\n' tests/golden/models/qwen3_moe/fp32 >"$tmp/7.slim"
exits 0 "the what-if screen" s --ui --script "$tmp/7.slim" --size 300x30 --dump-screen "$tmp/screen"
has "$tmp/screen" "vllm-ascend kept-float: 3 linears quantized, first model.layers.0.mlp.gate" "names the engine and the first rule"
has "$tmp/screen" "(1 more)" "and how many more"
finish
