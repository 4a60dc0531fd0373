#!/bin/sh
# asan: yes
# Bad input: one clear line on stderr, nothing on stdout, the documented exit code. Cases follow the peer's recorded ones where they apply.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
g=tests/golden/analysis c=$g/_cases model=$g/_models/llama-fp32
# bad CODE TEXT NAME COMMAND...: exit code, one line that contains TEXT, empty stdout
bad() {
    code=$1 text=$2 name=$3; shift 3
    exits "$code" "$name" "$@"
    has "$tmp/err" "$text" "$name: message"
    is "" "$(cat "$tmp/out")" "$name: nothing on stdout"
    is 1 "$(grep -c '^slimscope: ' "$tmp/err")" "$name: one line"
}

# ---- command line ----
bad 64 "unknown command 'anlyze': did you mean 'analyze'?" "wrong command" s anlyze
bad 64 "unknown command 'frobnicate': 'help' lists all, and no such model folder is here" "no command at all" s frobnicate
bad 64 "/dev/zero:1: the line holds a NUL byte" "a script without an end" s --script /dev/zero
bad 74 "cannot read script '/nosuch'" "no such script" s --script /nosuch
bad 1 "but the limit is 0.0102 MB: raise --mem" "a limit that nothing fits in" s analyze --model_path lab_models/demo --mem 10K
bad 64 "'exclude' works on an open model" "command of the prompt" s exclude a
bad 64 "no option '--frob'" "wrong option" s --frob
bad 65 "no such model folder" "no folder" s no/such/model

# ---- data sets ----
calib() { s analyze --model_path $model --calib_dataset "$1"; }
bad 65 "bad.json" "broken json" calib $c/bad.json
bad 65 "bad.jsonl:2" "broken jsonl names the line" calib $c/bad.jsonl
bad 65 "dict.json" "json that is no list" calib $c/dict.json
bad 65 "empty.json" "empty list" calib $c/empty.json
bad 65 "empty.jsonl" "empty file" calib $c/empty.jsonl
bad 65 "ints.json" "list of numbers" calib $c/ints.json
bad 65 "null.jsonl:1" "null text" calib $c/null.jsonl
printf '{"foo":"a text"}\n' >"$tmp/nokey.jsonl"
bad 65 "nokey.jsonl:1" "no text field" calib "$tmp/nokey.jsonl"
exits 0 "one token" calib $c/onetok.json
echo x >"$tmp/foo.txt"
bad 65 "foo.txt" "unknown file type" calib "$tmp/foo.txt"
bad 65 "nothere.jsonl" "missing file" calib nothere.jsonl
printf '{"inputs_pretokenized":"a\377b"}\n' >"$tmp/latin.jsonl"
exits 0 "text that is not UTF-8 is read with replacements, or refused by line" sh -c '"$1" analyze --model_path "$2" --calib_dataset "$3" >/dev/null 2>"$4"; rc=$?
    [ $rc = 0 ] || { [ $rc = 65 ] && grep -q "latin.jsonl:1" "$4"; }' sh "$SLIMSCOPE" $model "$tmp/latin.jsonl" "$tmp/latin.err"

# ---- models ----
m() { s analyze --model_path "$1" --calib_dataset $g/_models/calib5.jsonl; }
fresh() { rm -rf "$tmp/m"; mkdir "$tmp/m"; cp $model/* "$tmp/m/"; chmod u+w "$tmp"/m/*; }
bad 65 "no such model folder" "missing model" m "$tmp/none"
bad 65 "is a file" "a file as model" m $model/config.json
mkdir "$tmp/empty"
bad 65 "holds no config.json" "empty folder" m "$tmp/empty"
fresh; echo '{' >"$tmp/m/config.json"
bad 65 "config.json" "broken config.json" m "$tmp/m"
fresh; echo '[]' >"$tmp/m/config.json"
bad 65 "config.json" "config.json that is no object" m "$tmp/m"
fresh; sed -i 's/"hidden_size": *[0-9]*/"hidden_size": 63/' "$tmp/m/config.json"
bad 65 "" "shapes that do not fit" m "$tmp/m"
fresh; sed -i 's/"num_hidden_layers": *[0-9]*/"num_hidden_layers": 9/' "$tmp/m/config.json"
bad 65 "model.layers.3" "a missing layer is named" m "$tmp/m"
fresh; rm "$tmp/m/model.safetensors"
bad 65 "" "no weights" m "$tmp/m"
fresh; : >"$tmp/m/model.safetensors"
bad 65 "model.safetensors" "empty weights" m "$tmp/m"
fresh; size=$(wc -c <"$tmp/m/model.safetensors"); truncate -s $((size - 1)) "$tmp/m/model.safetensors"
bad 65 "model.safetensors" "weights cut by a byte" m "$tmp/m"
fresh; printf '\377\377\377\377\377\377\377\177' | dd of="$tmp/m/model.safetensors" conv=notrunc 2>/dev/null
bad 65 "model.safetensors" "a hostile header length" m "$tmp/m"
fresh; rm "$tmp/m/tokenizer.json"
bad 65 "tokenizer" "no tokenizer" m "$tmp/m"
fresh; echo '{}' >"$tmp/m/tokenizer.json"
bad 65 "tokenizer" "an empty tokenizer" m "$tmp/m"

# ---- recipes ----
for f in 01-duplicate-key 05-unknown-processor 09-bad-runner 10-illegal-character 18-empty-file; do
    bad 65 "$f.yaml" "recipe $f" s measure --model_path $model --recipe tests/golden/config/broken/$f.yaml
done
bad 74 "none.yaml" "missing recipe" s measure --model_path $model --recipe "$tmp/none.yaml"

# ---- writing ----
if [ "$(id -u)" -ne 0 ]; then
    mkdir "$tmp/ro"; chmod a-w "$tmp/ro"
    bad 74 "$tmp/ro" "read-only folder" s analyze --model_path $model --calib_dataset $c/onetok.json --out "$tmp/ro/o"
else
    skip "read-only folder" "root may write everywhere"
fi
bad 74 "/proc/none" "a folder that takes no files" s analyze --model_path $model --calib_dataset $c/onetok.json --out /proc/none
echo "open $model
export $tmp/nodir/x.yaml" >"$tmp/x.slim"
exits 74 "export into no folder" s --script "$tmp/x.slim"
has "$tmp/err" "x.slim:2:" "names the line"
finish
