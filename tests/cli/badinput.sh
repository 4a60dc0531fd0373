#!/bin/sh
# asan: yes
# Hostile files (tests/lib/hostile.py) and full disks: one clear line, the documented exit code, nothing half-written.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
g=tests/golden/analysis model=$g/_models/llama-fp32 calib=$g/_models/calib5.jsonl
python3 tests/lib/hostile.py "$model" "$tmp/bad" || exit 1

# refused NAME FILE COMMAND...: exit 65, one line on stderr that names FILE, nothing on stdout
refused() {
    label=$1 file=$2; shift 2
    "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    if [ "$got" = 65 ] && [ "$(wc -l <"$tmp/err")" = 1 ] && grep -q "^slimscope: .*$file" "$tmp/err" && [ ! -s "$tmp/out" ]; then
        ok "$label"
    else
        not_ok "$label"
        echo "# exit $got, wanted 65 and one line naming $file:"
        head -n 5 "$tmp/err" | cut -c1-300 | sed 's/^/# /'
    fi
}
for d in "$tmp"/bad/models/*; do
    refused "model ${d##*/}" "${d##*/}" s analyze --model_path "$d" --calib_dataset "$calib" --max-samples 1
done
for f in "$tmp"/bad/data/*; do
    refused "data set ${f##*/}" "${f##*/}" s analyze --model_path "$model" --calib_dataset "$f" --seq-len 16
done
printf '{"input_ids":[1,2,3]}\n{"input_ids":[999999]}\n' >"$tmp/vocab.jsonl"
refused "an evaluation set with a foreign id" "vocab.jsonl:2" s measure --model_path "$model" --calib_dataset "$calib" --eval "$tmp/vocab.jsonl"
refused "tokenize: a field that is no string" "number.jsonl:1" s tokenize --model_path "$model" --jsonl text "$tmp/bad/data/number.jsonl"
refused "the workbench, a model cut short" "st-cut" s --size 80x24 "$tmp/bad/models/st-cut"
exits 64 "the workbench, no such theme" s --size 80x24 --theme nosuch "$model"
has "$tmp/err" "there is no theme 'nosuch'" "the theme is named"

# ---- full disks: no file may grow beyond some blocks; errors go through a pipe, which has no size ----
# full BLOCKS CODE TEXT NAME COMMAND...
full() {
    blocks=$1 code=$2 text=$3 label=$4; shift 4
    { ( ulimit -f "$blocks"; "$@" 2>&1; echo "exit $?" ) </dev/null | cat >"$tmp/all"; }
    is "exit $code" "$(tail -n 1 "$tmp/all")" "$label: exit code"
    has "$tmp/all" "$text" "$label: message"
    if grep -q 'LeakSanitizer\|AddressSanitizer\|runtime error' "$tmp/all"; then not_ok "$label: clean"; cat "$tmp/all"; else ok "$label: clean"; fi
}
none() { if [ -e "$1" ]; then not_ok "$2"; else ok "$2"; fi; }
full 0 74 "cannot write '$tmp/o.txt'" "full disk: a result" s analyze --model_path "$model" --calib_dataset "$calib" --max-samples 1 --out "$tmp/o.txt"
none "$tmp/o.txt" "no half result stays"
full 4 74 "cannot write '$tmp/f.safetensors'" "full disk: tensors" s forward --model_path "$model" --ids 1,2,3 --out "$tmp/f.safetensors"
none "$tmp/f.safetensors" "no half file stays"
echo kept >"$tmp/e.yaml"
printf 'open %s\nexclude *.0.mlp.down_proj\nexport! %s\n' "$model" "$tmp/e.yaml" >"$tmp/e.slim"
full 0 74 "e.slim:3: cannot write '$tmp/e.yaml'" "full disk: the YAML" s --script "$tmp/e.slim"
is kept "$(cat "$tmp/e.yaml")" "the file that was there stays whole"
ls "$tmp" >"$tmp/list"
if grep -q '^\.\|tmp\.' "$tmp/list"; then not_ok "no temporary file stays"; else ok "no temporary file stays"; fi
printf 'open %s\ncalib %s\nset max-samples=1\nanalyze kurtosis\nexclude *.0.mlp.down_proj\nundo\nquit\n' "$model" "$calib" >"$tmp/u.slim"
shell_on() { XDG_STATE_HOME=$1 "$SLIMSCOPE" shell <"$tmp/u.slim"; }
full 0 0 "not saved" "full disk: no session" shell_on "$tmp/full0"
full 1 74 "not saved" "full disk: a journal that stops" shell_on "$tmp/full1"
is 2 "$(grep -c 'session not saved: cannot write' "$tmp/all")" "that is told when it happens and at the end"
on_screen() { XDG_STATE_HOME=$1 "$SLIMSCOPE" --ui --size 80x24 --script "$tmp/u.slim"; }
full 1 74 "not saved" "full disk: the workbench" on_screen "$tmp/full2"
if [ -w /dev/full ]; then
    exits 74 "standard output on a full device" sh -c '"$1" analyze --model_path "$2" --calib_dataset "$3" --max-samples 1 >/dev/full' sh "$SLIMSCOPE" "$model" "$calib"
    has "$tmp/err" "standard output: No space left on device" "says so"
fi
exits 0 "one text has no error estimate" s measure --model_path "$model" --calib_dataset "$calib" --eval "$calib" --ctx 64 --max-samples 1
has "$tmp/out" "(error unknown: too few texts) (last decoder layer" "and says so"
finish
