#!/bin/sh
# Address space in steps: whatever there is of it, analyze, measure and quant end soon, with a result or with one line.
. tests/tap.sh
unset OPENBLAS_NUM_THREADS # where the space is limited the program itself does without OpenBLAS's own threads
printf '{"input_ids":[11,56,30,21,14,27,8,16,9,3]}\n' >"$tmp/ids.jsonl"
model=tests/golden/models/llama/fp32
sed 's/dataset: .*/dataset: ids.jsonl/' lab_practice/default/default-w8a8-static.yaml >"$tmp/static.yaml"
# within KILOBYTES COMMAND...
within() {
    kb=$1
    shift
    (ulimit -v "$kb"; exec timeout -k 2 60 "$SLIMSCOPE" "$@") >"$tmp/out" 2>"$tmp/err" </dev/null
    code=$?
    lines=$(grep -c '^slimscope: ' "$tmp/err")
    case $code-$lines in 0-0) done=$((done + 1)) ;; 1-1) told=$((told + 1)) ;; *) bad="$bad $kb:exit-$code-lines-$lines" ;; esac
}
steps() { # NAME COMMAND...
    name=$1 bad="" done=0 told=0 kb=60000
    shift
    while [ $kb -le 400000 ]; do
        rm -rf "$tmp/q"
        within $kb "$@"
        kb=$((kb + 10000))
    done
    is "" "$bad" "$name: each step ends well"
    is "yes yes" "$([ $done -gt 0 ] && echo yes) $([ $told -gt 0 ] && echo yes)" "$name: some with a result, some with a line"
}
data="--model_path $model --threads 1"
steps analyze analyze $data --calib_dataset "$tmp/ids.jsonl"
steps measure measure $data --calib_dataset "$tmp/ids.jsonl" --eval "$tmp/ids.jsonl"
steps quant quant $data --config_path "$tmp/static.yaml" --save_path "$tmp/q"
finish
