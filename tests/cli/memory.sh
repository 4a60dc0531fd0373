#!/bin/sh
# --mem is kept, or refused with the figure.
. tests/tap.sh
model=lab_models/demo
# the line "peak memory 33.9 MiB, planned at most 61.3 MiB" in bytes/1024/1024*10: peak, plan
figures() { sed -n 's/^peak memory \([0-9]*\)\.\([0-9]\) MiB, planned at most \([0-9]*\)\.\([0-9]\) MiB$/\1\2 \3\4/p' "$1"; }
kept() {
    # shellcheck disable=SC2046 # two words are meant
    set -- "$1" $(figures "$tmp/err")
    if [ "$#" = 3 ] && [ "$2" -gt 0 ] && [ "$2" -le "$3" ]; then ok "$1"; else not_ok "$1"; sed 's/^/# /' "$tmp/err"; fi
}
for mem in 64M 100M 1G; do
    exits 0 "analyze in $mem" "$SLIMSCOPE" analyze --model_path $model --threads 2 --mem $mem
    kept "analyze keeps to $mem"
done
cp "$tmp/out" "$tmp/wide"
# What a process takes before it works differs between machines: the tightest limits may be refused, but never change a score.
for mem in 30M 34M 38M 42M; do
    if "$SLIMSCOPE" analyze --model_path $model --threads 2 --mem $mem >"$tmp/out" 2>"$tmp/err"; then
        same "$tmp/out" "$tmp/wide" "$mem changes no score"
    else
        has "$tmp/err" "raise --mem" "$mem is refused with what to do"
    fi
done
# A large parent's peak survives fork and exec in what getrusage tells: the figure is the program's own.
python3 - "$SLIMSCOPE" $model 2>"$tmp/err" >/dev/null <<'PY'
import os, sys
ballast = bytearray(os.urandom(1 << 20)) * 600
sys.exit(os.spawnvp(os.P_WAIT, sys.argv[1], [sys.argv[1], "analyze", "--model_path", sys.argv[2], "--max-samples", "2"]))
PY
kept "the peak is not the parent's"
# the plan is near the peak: at most 1.6 of it, where the program's own pages and small blocks weigh much
near() {
    # shellcheck disable=SC2046 # two words are meant
    set -- "$1" $(figures "$tmp/err")
    if [ "$#" = 3 ] && [ "$2" -le "$3" ] && [ $(($3 * 10)) -le $(($2 * 16)) ]; then ok "$1"; else not_ok "$1"; sed 's/^/# /' "$tmp/err"; fi
}
for r in w8a8-static w8a8-dynamic w4a8-dynamic; do
    exits 0 "measure $r" "$SLIMSCOPE" measure --model_path $model --threads 2 --recipe lab_practice/default/default-$r.yaml
    near "measure $r is planned near its peak"
done
exits 0 "analyze" "$SLIMSCOPE" analyze --model_path $model --threads 2
near "analyze is planned near its peak"
for m in mse_layer_wise mse_model_wise attention_mse; do
    exits 0 "analyze $m" "$SLIMSCOPE" analyze --model_path $model --threads 2 --scheme W8A8 --metrics $m --format csv
    near "analyze $m is planned near its peak"
    cp "$tmp/out" "$tmp/wide"
    exits 0 "analyze $m in 112M" "$SLIMSCOPE" analyze --model_path $model --threads 2 --scheme W8A8 --metrics $m --format csv --mem 112M
    kept "analyze $m keeps to 112M"
    same "$tmp/out" "$tmp/wide" "which changes no score"
done
# What the quantized model needs is known before the float one runs, and --mem that is said to be enough is.
exits 1 "measure in 60M is refused" "$SLIMSCOPE" measure --model_path $model --threads 2 --mem 60M --progress json
is "" "$(grep '"layer"\|"embed"' "$tmp/err")" "before any layer runs"
has "$tmp/err" "rows that cannot be cut" "with what needs most"
enough=$(sed -n 's/.*--mem \([0-9]*M\) is enough for all of it$/\1/p' "$tmp/err")
exits 0 "measure in $enough, which is said to be enough" "$SLIMSCOPE" measure --model_path $model --threads 2 --mem "${enough:-1M}" --format json
kept "measure keeps to $enough"
cp "$tmp/out" "$tmp/wide"
exits 0 "measure without a limit" "$SLIMSCOPE" measure --model_path $model --threads 2 --format json
same "$tmp/out" "$tmp/wide" "$enough changes no figure"
# Several measurements of a session: what is kept between them takes what is left, and changes no figure.
for mem in "${enough:-1M}" 150M 4G; do
    cat >"$tmp/states.slim" <<EOF
open $model
set threads=2
set mem=$mem
measure --format json --out $tmp/first.$mem
exclude '*.5.mlp.down_proj'
measure --format json --out $tmp/second.$mem
analyze
undo
measure --format json --out $tmp/third.$mem
EOF
    exits 0 "a session in $mem" "$SLIMSCOPE" --script "$tmp/states.slim"
    for k in first third; do # but what stands beside them: the prediction, and what it is held against
        python3 -c 'import json,sys
print({k: v for k, v in json.load(open(sys.argv[1])).items() if k not in ("against", "prediction", "seconds")})' "$tmp/$k.$mem" >"$tmp/$k.figures"
    done
    same "$tmp/first.figures" "$tmp/third.figures" "undone, the figures are those of before"
    same "$tmp/first.$mem" "$tmp/first.${enough:-1M}" "the first measurement in $mem"
    same "$tmp/second.$mem" "$tmp/second.${enough:-1M}" "the second in $mem"
done
for mem in 160M 400M; do
    exits 0 "measure in $mem" "$SLIMSCOPE" measure --model_path $model --threads 2 --max-samples 8 --mem $mem
    kept "measure keeps to $mem"
done
exits 1 "analyze in 1M is refused" "$SLIMSCOPE" analyze --model_path $model --mem 1M
has "$tmp/err" "raise --mem" "with what to do"
exits 1 "measure in 20M is refused" "$SLIMSCOPE" measure --model_path $model --max-samples 8 --mem 20M
has "$tmp/err" "raise --mem" "with what to do, too"

# ---- families with experts, latents, indexers, states and halves: kept, or refused with the figure ----
python3 - "$tmp/tokens.jsonl" <<'PY'
import json, random, sys
random.seed(1)
with open(sys.argv[1], "w") as f:
    for n in [500] * 17 + [3000]:
        f.write(json.dumps({"input_ids": [random.randrange(3, 60) for _ in range(n)]}) + "\n")
PY
kept_or_refused() {
    case_of=$1
    shift
    if "$@" >"$tmp/out" 2>"$tmp/err"; then
        kept "$case_of"
    else
        has "$tmp/err" "raise --mem" "$case_of: refused with what to do"
        # shellcheck disable=SC2046 # two words are meant
        set -- $(figures "$tmp/err")
        if [ "$#" = 0 ] || [ "$1" -le "$2" ]; then ok "$case_of: within the limit until then"; else not_ok "$case_of: $1 of $2"; fi
    fi
}
for m in llama qwen3_moe deepseek_v3 deepseek_v4 gpt_oss qwen3_next longcat_flash; do
    for mem in 25M 35M; do
        kept_or_refused "$m in $mem" "$SLIMSCOPE" analyze --model_path tests/golden/models/$m/fp32 --threads 2 \
            --calib_dataset "$tmp/tokens.jsonl" --mem $mem
    done
    exits 0 "$m in 300M" "$SLIMSCOPE" analyze --model_path tests/golden/models/$m/fp32 --threads 2 \
        --calib_dataset "$tmp/tokens.jsonl" --metrics kurtosis std quantile --mem 300M
    kept "$m keeps to 300M"
done

# ---- quant: the same, and a refusal leaves nothing behind ----
static=lab_practice/default/default-w8a8-static.yaml
sed "s|^  dataset:.*|  dataset: mix_calib.jsonl|" tests/golden/formats/w8a16_pergroup_gptq/config.yaml >"$tmp/gptq.yaml"
for r in lab_practice/default/default-w8a8-dynamic.yaml $static "$tmp/gptq.yaml"; do
    what=$(basename "$r" .yaml)
    rm -rf "$tmp/to"
    exits 0 "$what in 1G" "$SLIMSCOPE" quant --model_path $model --config_path "$r" --save_path "$tmp/to" --threads 2 \
        --max-samples 8 --mem 1G
    kept "$what keeps to 1G"
    rm -rf "$tmp/to"
    exits 1 "$what in 9M is refused" "$SLIMSCOPE" quant --model_path $model --config_path "$r" --save_path "$tmp/to" --threads 2 \
        --max-samples 8 --mem 9M
    has "$tmp/err" "raise --mem" "$what: with what to do"
    is "" "$(find "$tmp/to" -name '*.safetensors*' 2>/dev/null)" "$what: before anything is written"
done
finish
