#!/bin/sh
# asan: yes
# quant when things go wrong: one clear line, the right exit code, nothing lost.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
model=lab_models/demo
static=$PWD/lab_practice/default/default-w8a8-static.yaml
dynamic=$PWD/lab_practice/default/default-w8a8-dynamic.yaml
few="--max-samples 3 --seq-len 48"
weights=quant_model_weights-00001-of-00001.safetensors
q() { s quant --model_path $model "$@"; }
says() { # TEXT NAME: the only line of the error
    is 1 "$(grep -c '^slimscope: ' "$tmp/err")" "$2: one line"
    has "$tmp/err" "$1" "$2: says what"
}
spoil() { python3 tests/lib/spoil_model.py "$model" "$tmp/$1" "$2"; }
sums() { (cd "$1" && find . -type f | sort | xargs sha256sum); }
all() { ls -A "$1" | tr '\n' ' '; }

# ---- the model is broken ----
spoil nan nan:model.layers.2.mlp.up_proj.weight
spoil inf inf:model.layers.2.mlp.up_proj.weight
spoil lack lack:model.layers.2.mlp.up_proj.weight
spoil missing shard-missing
spoil short shard-short
spoil shards shards
broken() { # MODEL TEXT: with a recipe that needs data and with one that doesn't
    for r in "$static" "$dynamic"; do
        exits 65 "$1 with $(basename "$r")" s quant --model_path "$tmp/$1" --config_path "$r" --save_path "$tmp/no" $few
        says "$2" "$1"
        [ ! -e "$tmp/no" ] && ok "$1: nothing is left" || not_ok "$1: nothing is left"
    done
    exits 65 "check of $1" s check "$tmp/$1"
}
broken lack "'model.layers.2.mlp.up_proj.weight' is missing"
broken missing "'model-00002-of-00002.safetensors', which is missing"
broken short "is truncated"
broken nan "slimscope check"
exits 65 "a NaN without data" s quant --model_path "$tmp/nan" --config_path "$dynamic" --save_path "$tmp/no"
says "'model.layers.2.mlp.up_proj': its weight holds NaN at [0,50]" "names linear and place"
exits 65 "an Inf" s quant --model_path "$tmp/inf" --config_path "$dynamic" --save_path "$tmp/no" --compat peer
says "its weight holds Inf at [0,50]" "and what it is"
sed "s/- '\*\.{gate,.*/- '*.2.mlp.up_proj'/" "$dynamic" >"$tmp/without.yaml"
exits 65 "kept in float" s quant --model_path "$tmp/nan" --config_path "$tmp/without.yaml" --save_path "$tmp/nanfloat"
says "'model.layers.2.mlp.up_proj.weight' has NaN at [0,50]: the model is damaged" "and copied"
exits 0 "shards that are whole" s quant --model_path "$tmp/shards" --config_path "$dynamic" --save_path "$tmp/fromshards"

# ---- the target can't be written ----
mkdir "$tmp/readonly"
chmod 755 "$tmp"
chmod 555 "$tmp/readonly"
user=""
[ "$(id -u)" != 0 ] || user="setpriv --reuid=65534 --regid=65534 --clear-groups"
if [ -z "$user" ] || $user "$SLIMSCOPE" --version >/dev/null 2>&1; then
    exits 74 "a folder in one that is read-only" $user "$SLIMSCOPE" quant --model_path $model --config_path "$dynamic" --save_path "$tmp/readonly/new"
    says "cannot make folder '$tmp/readonly/new': Permission denied" "no new folder"
    exits 74 "a folder that is read-only" $user "$SLIMSCOPE" quant --model_path $model --config_path "$dynamic" --save_path "$tmp/readonly"
    says "cannot write into '$tmp/readonly': Permission denied" "no new files"
fi
exits 74 "below a file" q --config_path "$dynamic" --save_path "$static/new"
says "Not a directory" "below a file"

# ---- a good output stays until the new one is whole ----
exits 0 "a good output" q --config_path "$dynamic" --save_path "$tmp/good"
sums "$tmp/good" >"$tmp/before"
unchanged() { sums "$tmp/good" >"$tmp/after"; same "$tmp/before" "$tmp/after" "$1: the good output is whole"; }
exits 74 "no room" sh -c "ulimit -f 2000; exec '$SLIMSCOPE' quant --model_path $model --config_path '$dynamic' --save_path '$tmp/good' --force"
says "does not allow a file of" "no room"
unchanged "no room"
exits 65 "a model with a NaN" s quant --model_path "$tmp/nan" --config_path "$static" --save_path "$tmp/good" --force $few
unchanged "a NaN"
for n in 1 2; do
    exits 130 "^C $n times" python3 tests/lib/interrupt_at.py "layer 3 " SIGINT $n "$SLIMSCOPE" quant --model_path $model --config_path "$static" --save_path "$tmp/good" --force --progress always
    grep -v '/.slimscope-' "$tmp/before" >"$tmp/want"
    sums "$tmp/good" | grep -v '/.slimscope-' >"$tmp/after"
    same "$tmp/want" "$tmp/after" "^C $n times: the good output is whole"
done
says "resume goes on" "^C"
exits 0 "gone on with" q --config_path "$static" --save_path "$tmp/good" --resume
has "$tmp/out" "layers were there already" "what was finished is not done again"
exits 0 "at once" q --config_path "$static" --save_path "$tmp/atonce"
is "$(sums "$tmp/atonce")" "$(sums "$tmp/good")" "the same bytes as of a run at once"

# ---- killed ----
exits 0 "never killed" q --config_path "$static" --save_path "$tmp/whole" $few
sums "$tmp/whole" >"$tmp/before"
for layer in 1 4 7 8; do
    python3 tests/lib/interrupt_at.py "layer $layer " SIGKILL 1 "$SLIMSCOPE" quant --model_path $model --config_path "$static" --save_path "$tmp/killed$layer" $few --progress always 2>"$tmp/log"
    exits 0 "killed in layer $layer, gone on" q --config_path "$static" --save_path "$tmp/killed$layer" $few --resume --verify
    sums "$tmp/killed$layer" >"$tmp/after"
    same "$tmp/before" "$tmp/after" "the same bytes"
done

# ---- files of others, and what was written before ----
mkdir "$tmp/models"
echo "my only copy" >"$tmp/models/my_lora_adapter.safetensors"
echo mine >"$tmp/models/notes.txt"
exits 0 "dry run beside files of others" q --config_path "$dynamic" --save_path "$tmp/models" --dry-run
has "$tmp/out" "leaves     my_lora_adapter.safetensors" "says what it leaves"
exits 0 "beside files of others" q --config_path "$dynamic" --save_path "$tmp/models"
is "my only copy" "$(cat "$tmp/models/my_lora_adapter.safetensors")" "which are still there"
is mine "$(cat "$tmp/models/notes.txt")" "and these"
exits 64 "over an older output" q --config_path "$static" --save_path "$tmp/models" $few
says "'$tmp/models' holds 'demo' as ascendv1_saver wrote it: --force replaces it, or choose another folder" "an older output"
exits 64 "of another model" s quant --model_path "$tmp/shards" --config_path "$dynamic" --save_path "$tmp/models"
says "holds another model, 'demo', as ascendv1_saver wrote it" "another model"
sed 's/ascendv1_saver/mindie_format_saver/' "$dynamic" >"$tmp/mindie.yaml"
exits 0 "dry run over it" q --config_path "$tmp/mindie.yaml" --save_path "$tmp/models" --force --dry-run
has "$tmp/out" "removes    $weights" "says what goes"
has "$tmp/out" "replaces   README.md, config.json" "and what is replaced"
exits 0 "over it, by another saver" q --config_path "$tmp/mindie.yaml" --save_path "$tmp/models" --force
has "$tmp/out" "of the older output removed: $weights" "says what went"
is ".slimscope.mindie_format_saver.json README.md config.json generation_config.json my_lora_adapter.safetensors notes.txt quant_model_description_w8a8_dynamic.json quant_model_weight-00001-of-00001.safetensors quant_model_weight.safetensors.index.json qwen3_best_practice.yaml tokenizer.json tokenizer_config.json " \
    "$(all "$tmp/models")" "the new output and the files of others are there, nothing else"
mkdir "$tmp/hub"
cp $model/config.json $model/model.safetensors "$tmp/hub"
exits 64 "into a model from elsewhere" q --config_path "$dynamic" --save_path "$tmp/hub"
says "holds config.json, of no output of slimscope: --force replaces it, or choose another folder" "a model from elsewhere"
same $model/config.json "$tmp/hub/config.json" "which is as it was"
mkdir "$tmp/home" "$tmp/link"
echo precious >"$tmp/home/thesis.tex"
ln -s "$tmp/home" "$tmp/link/.slimscope-ascendv1_saver"
exits 74 "a link in place of a run's folder" q --config_path "$dynamic" --save_path "$tmp/link"
says "is a link or a file, where a run keeps its folder" "a link"
is "thesis.tex " "$(all "$tmp/home")" "nothing behind it was touched"
script() { printf 'open %s\nrecipe %s\nquantize --save %s\n' "$model" "$dynamic" "$1" | s --script -; }
exits 0 "the command language" script "$tmp/word"
exits 0 "the same again" script "$tmp/word"
printf 'open %s\nrecipe %s\nexclude *.0.mlp.down_proj\nquantize --save %s\n' "$model" "$dynamic" "$tmp/word" >"$tmp/other"
exits 64 "another assignment" s --script "$tmp/other"
says "! replaces it" "names its own word"
exits 0 "with that word" script "$tmp/word!"
printf 'open %s\nrecipe %s\nquantize! --save %s\n' "$model" "$dynamic" "$tmp/word" >"$tmp/bang"
exits 0 "or behind the verb" s --script "$tmp/bang"

# ---- something else than what was stopped ----
exits 130 "stopped" python3 tests/lib/interrupt_at.py "layer 2 " SIGINT 1 "$SLIMSCOPE" quant --model_path $model --config_path "$static" --save_path "$tmp/part" --max-samples 20 --progress always
left=$(sums "$tmp/part/.slimscope-ascendv1_saver" | grep -v /lock)
other() { # TEXT ARGUMENTS
    text=$1
    shift
    exits 65 "resumed with $*" s quant --save_path "$tmp/part" --resume "$@"
    says "$text" "$*"
}
other "the recipe quantizes other layers" --model_path $model --config_path "$dynamic" --max-samples 20
other "the calibration texts are others" --model_path $model --config_path "$static" --max-samples 19
other "the arithmetic (--dtype-sim)" --model_path $model --config_path "$static" --max-samples 20 --dtype-sim exact
other "the arithmetic (--compat)" --model_path $model --config_path "$static" --max-samples 20 --compat peer
other "the model has changed" --model_path "$tmp/shards" --config_path "$static" --max-samples 20
is "$left" "$(sums "$tmp/part/.slimscope-ascendv1_saver" | grep -v /lock)" "what was stopped is still there"

exits 64 "started again" q --config_path "$static" --save_path "$tmp/part" --max-samples 20
says "of 8 layers done: go on with it by --resume, or start again with --force" "started again"
exits 64 "something else started" q --config_path "$dynamic" --save_path "$tmp/part"
says "holds a stopped run that this one can't go on with (the recipe quantizes other layers or with another scheme)" "something else"
is "$left" "$(sums "$tmp/part/.slimscope-ascendv1_saver" | grep -v /lock)" "what was stopped is there after that, too"
exits 0 "dry run beside it" q --config_path "$static" --save_path "$tmp/part" --dry-run
has "$tmp/out" "layers done: --resume goes on with it" "says so"
exits 0 "with --force" q --config_path "$dynamic" --save_path "$tmp/part" --force

# ---- progress ----
exits 0 "no terminal" q --config_path "$dynamic" --save_path "$tmp/quiet"
is 0 "$(grep -c '^layer' "$tmp/err")" "no line a layer, as --progress auto says"

# ---- two at once ----
mkfifo "$tmp/pipe"
"$SLIMSCOPE" quant --model_path $model --config_path "$static" --save_path "$tmp/two" --progress always 2>"$tmp/pipe" >/dev/null &
pid=$!
exec 3<"$tmp/pipe"
while read -r line <&3; do case $line in layer*) break ;; esac; done
kill -STOP $pid
exits 74 "a second run" q --config_path "$static" --save_path "$tmp/two"
says "another run (process $pid) is writing to" "names the first"
kill -CONT $pid
cat <&3 >/dev/null
exec 3<&-
wait $pid && ok "the first ends well" || not_ok "the first ends well"

# ---- what is in no decoder layer; caches ----
printf '{"input_ids":[1,5,9,12,3,7]}\n{"input_ids":[3,8,1]}\n' >"$tmp/ids.jsonl"
for kind in fp8 int4; do
    python3 tests/lib/coded_models.py $kind "$tmp/c" "$tmp/p"
    for m in c p; do
        model=$tmp/$m
        spoil "mtp-$m" layers-1
        exits 0 "$kind: $m" s quant --model_path "$tmp/mtp-$m" --config_path "$dynamic" --save_path "$tmp/out-$m" --verify
        has "$tmp/out" "0 problems" "$kind: read back"
    done
    same "$tmp/out-c/$weights" "$tmp/out-p/$weights" "$kind: an MTP layer's codes are written as what they stand for"
    rm -rf "$tmp/c" "$tmp/p" "$tmp/mtp-c" "$tmp/mtp-p" "$tmp/out-c" "$tmp/out-p"
done
cache() { printf "apiversion: modelslim_v1\nspec:\n  process:\n  - type: dynamic_cache\n    qconfig: {dtype: int8, scope: per_channel, symmetric: true, method: minmax}\n    include: ['%s']\n  save:\n  - type: ascendv1_saver\n  dataset: ids.jsonl\n" "$1" >"$tmp/cache.yaml"; }
cache '*self_attn.1'
exits 65 "the second attention of a layer" s quant --model_path tests/golden/models/longcat_flash/fp32 --config_path "$tmp/cache.yaml" --save_path "$tmp/no" --dry-run
says "can't be written as C8" "isn't passed over"
cache '*nothing'
exits 0 "no attention" s quant --model_path tests/golden/models/llama/fp32 --config_path "$tmp/cache.yaml" --save_path "$tmp/no" --dry-run
has "$tmp/err" "dynamic_cache selects no attention" "is told"

# ---- every family, with data and without; experts that see no token ----
sed -e 's/mix_calib.jsonl/ids.jsonl/' -e '/\.experts\.\*.$/d' "$static" >"$tmp/ids.yaml" # experts with fixed ranges, too
for m in tests/golden/models/*/fp32; do
    for r in "$dynamic" "$tmp/ids.yaml"; do
        exits 0 "$m with $(basename "$r")" s quant --model_path "$m" --config_path "$r" --save_path "$tmp/family" --verify --force
        has "$tmp/out" "0 problems" "read back"
    done
    case $m in *glm4_moe*)
        has "$tmp/err" "expert linears stayed in float, first model.layers." "experts without a token: how many, and the first"
        name=$(sed -n 's/.*first \(model[^:]*\):.*/\1/p' "$tmp/err")
        has "$tmp/family/quant_model_description.json" "\"$name.weight\": \"FLOAT\"" "which is described as float" ;;
    esac
    rm -rf "$tmp/family"
done
finish
