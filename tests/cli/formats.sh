#!/bin/sh
# Every recorded run of the original that is in scope, from its own recipe and texts with --compat peer: the same files,
# documents equal byte for byte, weights too except where the list below says why not.
. tests/tap.sh
top=$(pwd)
case $SLIMSCOPE in /*) ;; *) SLIMSCOPE=$top/$SLIMSCOPE ;; esac
golden=$top/tests/golden/formats

# Cases whose activation or cache ranges come out of a forward pass that sums in another order than the original's: scales
# differ in the last digits of their type (tests/unit/test_sink_save.c holds the bounds), nothing else does.
inexact="w8a8_static_fp32_llama w8a8_static_tied_fallback w8a8_pdmix w8a8_pdmix_fp16_bias w8a8_dynamic_pergroup_gptq
w8a16_pergroup_gptq c8_fp16 c8_only_bf16 c8_only_bf16_lastsample c8_only_fp32 w8a8c8_asym mindie_w8a8_static_fp16
ct_w8a8_static ct_mixed_fallback_fp32 ct_pdmix_unsupported_fp32"

# Runs that were recorded with a smaller unit of part_file_size.
limit_of() {
    case $1 in
        sharded_w8a8_static|sharded_ct) echo 0.00006103515625 ;; # 65536 bytes
        sharded_tiny) echo 0.0000186264514923095703125 ;;         # 20000 bytes
    esac
}

exact_enough() {
    case " $(echo $inexact) " in *" $1 "*) return 0 ;; esac
    return 1
}

# same files, and all but weights equal; prints what is not
compare() { # CASE OUT
    for want in "$golden/$1"/out/*; do
        name=$(basename "$want")
        [ -f "$2/$name" ] || { echo "$name is missing"; continue; }
        cmp -s "$want" "$2/$name" && continue
        case $name in
            *.safetensors)
                if exact_enough "$1" && [ "$(wc -c <"$want")" = "$(wc -c <"$2/$name")" ]; then continue; fi ;;
            *_best_practice.yaml) [ -n "$(limit_of "$1")" ] && continue ;;
        esac
        echo "$name differs"
    done
    for got in "$2"/*; do
        name=$(basename "$got")
        [ -e "$golden/$1/out/$name" ] && continue
        cmp -s "$got" "$golden/_models/$(cat "$golden/$1/MODEL")/$name" || echo "$name is not of the original's"
    done
}

for dir in "$golden"/*/; do
    run=$(basename "$dir")
    [ -f "$dir/MODEL" ] || continue
    type=$(basename "$dir"/out/*_best_practice.yaml _best_practice.yaml)
    mkdir "$tmp/$run"
    cp "$dir/config.yaml" "$dir/calib.jsonl" "$tmp/$run"
    tail -n 1 "$dir/calib.jsonl" >"$tmp/$run/calib_last.jsonl" # one recipe asks for the last text alone
    limit=$(limit_of "$run")
    [ -z "$limit" ] || sed -i "s/part_file_size: .*/part_file_size: $limit/" "$tmp/$run/config.yaml"
    exits 0 "$run runs" "$SLIMSCOPE" quant --model_path "$golden/_models/$(cat "$dir/MODEL")" --save_path "$tmp/$run/out" \
        --model_type "$type" --config_path "$tmp/$run/config.yaml" --compat peer
    is "" "$(compare "$run" "$tmp/$run/out")" "$run has the same files"
done

# What compressed-tensors has no form for: refused, and written with a warning only as the original does.
for run in ct_w8a16_unsupported_fp32 ct_pdmix_unsupported_fp32; do
    model=$golden/_models/$(cat "$golden/$run/MODEL")
    exits 65 "$run is refused" "$SLIMSCOPE" quant --model_path "$model" --save_path "$tmp/no" \
        --config_path "$golden/$run/config.yaml"
    is "" "$(ls "$tmp/no" 2>/dev/null)" "nothing is made"
    exits 0 "$run is written with --compat peer" "$SLIMSCOPE" quant --model_path "$model" --save_path "$tmp/$run.peer" \
        --config_path "$golden/$run/config.yaml" --compat peer
    has "$tmp/err" "no loader takes" "and warned of"
done
finish
