#!/bin/sh
# Every recorded run of the original that is in scope, from its own recipe and texts with --compat peer: the same files, equal
# byte for byte; in the cases of the list below float32 values may be off by 1e-6.
. tests/tap.sh
top=$(pwd)
case $SLIMSCOPE in /*) ;; *) SLIMSCOPE=$top/$SLIMSCOPE ;; esac
golden=$top/tests/golden/formats

# Smoothed models whose scales are found behind float32 sums, and go into everything: a shift times a weight sums to a bias near
# zero; a code of an activation that rounds the other way moves what the second layer is smoothed by. Room, in parts of a
# tensor's largest value, and one code in a thousand may be the next one.
room_of() {
    case $1 in
        smooth_quant_shift_w8a8_fp32) echo 2e-6 ;;
        iter_smooth_w8a8_fp32|w8a8_debug) echo 1e-4 ;;
        svd_*|mindie_svd_mxfp4) echo 1e-6 ;; # the signs of a branch's pairs are free
        w16a16s) echo share=0.03 ;; # one value of the first layer rounds the other way, which the second one is pruned by
        debug_two_namespaces) echo 1e-6 ;; # and one channel's largest input is the next BF16 value
    esac
}
roomy="w16a16s svd_mxfp4 svd_w8a8_dynamic mindie_svd_mxfp4 smooth_quant_shift_w8a8_fp32 iter_smooth_w8a8_fp32 w8a8_debug debug_two_namespaces"

# Cases whose float32 scales come out of sums in float32 (ranges of float32 activations or caches, GPTQ's Hessian): the order of
# the sums, which differs between kernels of the original's own library too, shows in their last digits.
inexact="w8a8_static_fp32_llama w8a8_dynamic_pergroup_gptq w8a16_pergroup_gptq c8_fp16 c8_only_fp32 w8a8c8_asym ct_w8a8_static ct_w8a8_static_sym
ct_mixed_fallback_fp32 ct_pdmix_unsupported_fp32 iter_smooth_default_llama smooth_quant_w8a8_fp32 $roomy"

# Runs that were recorded with a smaller unit of part_file_size.
limit_of() {
    case $1 in
        sharded_w8a8_static|sharded_ct) echo 0.00006103515625 ;; # 65536 bytes
        sharded_tiny) echo 0.0000186264514923095703125 ;;         # 20000 bytes
    esac
}

# What was trained from a random start: the same documents and tensors, whose values are as good (tests/lib/transformed.py), of the
# tokens of the text that all of them had.
trained="flatquant_w8a8_dynamic flatquant_mxfp4 flatquant_w4a4_autoround"
trained_ids="[51,276,220,80,84,72,66,74,352,81,367,77,357,78,87,220,73,84,76,79,82,220,78,85,262,321,220,75,64,89,88,366,78,70,13]"

# How much worse than the one recorded draw ours may be: seeds differ by some percent.
trained_room() {
    case $1 in flatquant_w4a4_autoround) echo 1.15 ;; *) echo 1.01 ;; esac
}

is_trained() {
    case " $trained " in *" $1 "*) return 0 ;; esac
    return 1
}

is_inexact() {
    case " $(echo $inexact) " in *" $1 "*) return 0 ;; esac
    return 1
}

# prints which files are not the same
compare() { # CASE OUT
    for want in $(cd "$golden/$1/out" && find . -type f -o -type l | sort); do
        name=${want#./}
        want=$golden/$1/out/$name
        [ -f "$2/$name" ] || { echo "$name is missing"; continue; }
        cmp -s "$want" "$2/$name" && continue
        case $name in
            *.safetensors)
                is_trained "$1" && continue
                if is_inexact "$1"; then python3 "$top/tests/lib/compare_weights.py" "$want" "$2/$name" $(room_of "$1"); continue; fi ;;
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

seen=
for dir in "$golden"/*/; do
    case "$dir" in */convert_*) continue ;; esac # convert.sh
    run=$(basename "$dir")
    [ -f "$dir/MODEL" ] && [ -d "$dir/out" ] || continue # without an output the original failed
    type=$(basename "$dir"/out/*_best_practice.yaml _best_practice.yaml)
    mkdir "$tmp/$run"
    cp "$dir/config.yaml" "$dir"/calib*.jsonl "$tmp/$run"
    tail -n 1 "$dir/calib.jsonl" >"$tmp/$run/calib_last.jsonl" # one recipe asks for the last text alone
    limit=$(limit_of "$run")
    debug=
    [ ! -d "$dir/out/debug_info" ] || debug=--debug
    [ -z "$limit" ] || sed -i "s/part_file_size: .*/part_file_size: $limit/" "$tmp/$run/config.yaml"
    exits 0 "$run runs" "$SLIMSCOPE" quant --model_path "$golden/_models/$(cat "$dir/MODEL")" --save_path "$tmp/$run/out" \
        --model_type "$type" --config_path "$tmp/$run/config.yaml" --compat peer $debug
    is "" "$(compare "$run" "$tmp/$run/out")" "$run has the same files"
    is_inexact "$run" && seen="$seen $run"
    is_trained "$run" && is "" "$(python3 "$top/tests/lib/transformed.py" "$golden/_models/$(cat "$dir/MODEL")" "$dir/out" "$tmp/$run/out" \
        "$trained_ids" "$(trained_room "$run")" || echo "no answer")" "$run is as good as recorded"
done
is "$(echo $inexact | tr ' ' '\n' | sort)" "$(echo $seen | tr ' ' '\n' | sort)" "each case of the list was run"

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
