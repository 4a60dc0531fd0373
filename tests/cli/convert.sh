#!/bin/sh
# asan: yes
# convert, and quant with a document of modelslim_convert: every recorded run byte for byte, every coding against values worked out elsewhere,
# and what goes wrong in one line.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
G=tests/golden/formats
equal() { # GOT WANT NAME [documents|values]
    if python3 tests/lib/compare_converted.py "$1" "$2" ${4:-} 2>"$tmp/log"; then ok "$3"; else not_ok "$3"; sed 's/^/# /' "$tmp/log"; fi
}
says() { # TEXT NAME: the only line of the error
    is 1 "$(grep -c '^slimscope: ' "$tmp/err")" "$2: one line"
    has "$tmp/err" "$1" "$2: says what"
}
nothing() { if [ -e "$1" ]; then not_ok "$2: nothing is left"; else ok "$2: nothing is left"; fi; }

# ---- recorded runs ----
for case in float_bias:qwen3-fp16-2 fp8block32_to_bf16_hf:qwen3-bf16-2 fp8block_to_bf16_ascend:qwen3-bf16-3 fp8block_to_mxfp8:qwen3-bf16-4 \
    int4packed_to_bf16_hf:qwen3-bf16-5 int4packed_to_mxfp8:qwen3-bf16-6 single_file:qwen3-bf16; do
    run=${case%:*} model=$G/_models/${case#*:}
    exits 0 "$run as the original" s quant --model_path $model --config_path $G/convert_$run/config.yaml --save_path "$tmp/p-$run" \
        --model_type Qwen3-8B --compat peer
    equal "$tmp/p-$run" $G/convert_$run/out "$run: every tensor and document" documents
    for file in "$tmp/p-$run"/*.safetensors; do
        [ ! -f "$file" ] || same "$file" "$G/convert_$run/out/$(basename "$file")" "$run: $(basename "$file") byte for byte"
    done
    exits 0 "$run" s convert $model --config_path $G/convert_$run/config.yaml --save_path "$tmp/o-$run" --verify
    has "$tmp/out" "all as converted" "$run is read back"
    exits 0 "check of $run" s check "$tmp/o-$run"
done
equal "$tmp/o-fp8block32_to_bf16_hf" $G/convert_fp8block32_to_bf16_hf/out "floats of codes are the same without --compat peer"
[ -f "$tmp/o-single_file/quant_model_weights-00001-of-00001.safetensors" ] && ok "a single file is read" || not_ok "a single file is read"
exits 0 "the same again" s convert $G/_models/qwen3-bf16 --config_path $G/convert_single_file/config.yaml --save_path "$tmp/o-single_file"
has "$tmp/out" "holds this model already" "is there already"

# ---- every coding: the values of coded_models.py ----
chunk() { # SOURCE... : a document that cuts stacks of experts
    cat <<'D'
apiversion: modelslim_convert
spec:
  preprocess:
  - {type: convert, source: ['*.experts.gate_up_proj'], target: ['*'], ops: [{type: chunk, dim: 1, projections: [gate_proj, up_proj]}]}
  - {type: convert, source: ['*.experts.down_proj'], target: ['*'], ops: [{type: chunk, dim: 1, projections: [down_proj]}]}
  - {type: rename, patterns: [{from: '(.*[.]mlp)[.](gate|up|down)_proj[.]weight(_scale_inv)?', to: '\1.experts.\2_proj.weight\3'}]}
  - {type: convert, source: ['*.experts.gate_proj'], target: ['*'], ops: [{type: chunk, projections: [gate_proj]}]}
  - {type: convert, source: ['*.experts.up_proj'], target: ['*'], ops: [{type: chunk, projections: [up_proj]}]}
  linears: [{match: ['*'], target: FLOAT}]
  save: [{type: huggingface, part_file_size: 0.0001}]
D
}
chunk >"$tmp/chunk.yaml"
for kind in fp8 e8m0 int4 mxfp4 c_fp8 f_fp8 f; do
    python3 tests/lib/coded_models.py $kind "$tmp/$kind" "$tmp/$kind-plain" || not_ok "$kind: made"
    how="--to bf16"
    case $kind in c_* | f_* | f) how="--config_path $tmp/chunk.yaml" ;; esac
    exits 0 "$kind to BF16" s convert "$tmp/$kind" $how --save_path "$tmp/$kind-out" --verify
    equal "$tmp/$kind-out" "$tmp/$kind-plain" "$kind: the values that the codes stand for" values
    if grep -q quantization_config "$tmp/$kind-out/config.json"; then not_ok "$kind: config.json tells of no codes"; else ok "$kind: config.json tells of no codes"; fi
done

# ---- quantized from codes ----
for to in mxfp8 mxfp4 w4a8_mxfp8; do
    exits 0 "fp8 to $to" s convert "$tmp/fp8" --to $to --save_path "$tmp/fp8-$to" --verify --format json
    python3 -c 'import json,sys; d=json.load(sys.stdin); assert 0 < d["error"] < 0.2 and d["compared"] > 0, d' <"$tmp/out" && ok "$to: off by little" || not_ok "$to: off by little"
    exits 0 "check of $to" s check "$tmp/fp8-$to"
    has "$tmp/out" "written by ascendv1_saver" "$to is known by its description"
done
exits 0 "some, in Hugging Face's layout" s convert "$tmp/fp8" --to bf16 --match '*.0.*' --save_path "$tmp/some"
has "$tmp/err" "weights stay as they are as FP8_BLOCK" "says what stays coded"
has "$tmp/some/config.json" "quantization_config" "and config.json still says how"
exits 0 "one thread, little memory" s convert "$tmp/fp8" --to mxfp8 --save_path "$tmp/one" --threads 1 --mem 400K
equal "$tmp/one" "$tmp/fp8-mxfp8" "the same bytes"
same "$tmp/one/.slimscope.ascendv1_saver.json" "$tmp/fp8-mxfp8/.slimscope.ascendv1_saver.json" "the same run"

# ---- documents ----
doc() { printf 'apiversion: modelslim_convert\nspec:\n  linears:\n  - match: ["*_proj"]\n    target: %s\n%b' "$1" "${2:-}" >"$tmp/doc.yaml"; }
refused() { # TEXT NAME [MODEL]
    exits 65 "$2" s convert "${3:-$tmp/fp8}" --config_path "$tmp/doc.yaml" --save_path "$tmp/no"
    says "$1" "$2"
    nothing "$tmp/no" "$2"
    exits 65 "check: $2" s check "$tmp/doc.yaml" "${3:-$tmp/fp8}"
    has "$tmp/out" "$1" "check says it: $2"
}
doc HIFP4; refused "doc.yaml:5:13: target HIFP4 can't be made by this build: FLOAT, W8A8_MXFP8, W4A4_MXFP4 and W4A8_MXFP8 can" "a kind that isn't made"
doc W8A8_MXFP8 "  save: [{type: hf}]\n"; refused "W8A8_MXFP8 requires the destination ascendv1" "the wrong destination"
doc FLOAT "    route: [FP8_BLOCK, W8A8_MXFP8]\n"; refused "the route ends with W8A8_MXFP8, the target is FLOAT" "a route that ends elsewhere"
doc FLOAT "    route: [W8A8_MXFP8, FLOAT]\n"; refused "FLOAT can't be made of W8A8_MXFP8" "a route without an edge"
doc FLOAT "    route: [INT4_PACKED, FLOAT]\n"; refused "is stored as FP8_BLOCK, which is not on the route" "a route from another kind"
doc FLOAT "  preprocess: [{type: convert, source: ['*'], target: ['*'], ops: [{type: merge, dim: 0}]}]\n"; refused "the operation 'merge' isn't done here" "merge"
doc FLOAT "  preprocess: [{type: rename, patterns: [{from: '(', to: x}]}]\n"; refused "is no regular expression" "a broken pattern"
doc FLOAT "  preprocess: [{type: rename, patterns: [{from: '.*norm.*', to: x}]}]\n"; refused "two tensors would be called 'x'" "names that meet"
doc W4A4_MXFP4; refused "is a stack of 4 matrices, of which W4A4_MXFP4 can't be made: cut it by a chunk step" "a stack" "$tmp/c_fp8"
doc FLOAT "  - match: ['*.nowhere']\n    target: FLOAT\n  save: [{type: hf}]\n"
exits 0 "check of a document" s check "$tmp/doc.yaml" "$tmp/fp8"
has "$tmp/out" "'*.nowhere' takes no linear that none before it takes" "a pattern that takes nothing"
has "$tmp/out" "linears FP8_BLOCK -> FLOAT" "what would become of it"
printf 'apiversion: modelslim_convert\nspec: {linears: [{match: ["*.0.*"], target: FLOAT}]}\n' >"$tmp/doc.yaml"
refused "no rule takes 'model.layers.1" "codes that are left in ascendv1"
exits 65 "a recipe" s convert "$tmp/fp8" --config_path lab_practice/default/default-w8a8-dynamic.yaml --save_path "$tmp/no"
says "is no document of modelslim_convert" "a recipe"
exits 64 "neither" s convert "$tmp/fp8" --save_path "$tmp/no"
exits 64 "both" s convert "$tmp/fp8" --to bf16 --config_path "$tmp/doc.yaml" --save_path "$tmp/no"
exits 64 "into itself" s convert "$tmp/fp8" --to bf16 --save_path "$tmp/fp8" --force
says "is the model's own folder" "into itself"

# ---- broken models ----
spoil() { python3 - "$tmp/fp8" "$tmp/$1" "$1" <<'PY'
import json, os, struct, sys
src, dst, what = sys.argv[1:]
os.makedirs(dst)
open(dst + "/config.json", "w").write(open(src + "/config.json").read())
data = bytearray(open(src + "/model.safetensors", "rb").read())
n = struct.unpack("<Q", data[:8])[0]
head = json.loads(data[8 : 8 + n])
name = "model.layers.1.mlp.down_proj.weight"
at = lambda t: 8 + n + head[t]["data_offsets"][0]
if what == "nanscale":
    data[at(name + "_scale_inv") : at(name + "_scale_inv") + 4] = struct.pack("<f", float("nan"))
elif what == "nancode":
    data[at(name) + 3] = 0x7F
elif what == "short":
    del data[-100:]
elif what == "noscale":
    head["other"] = head.pop(name + "_scale_inv")
elif what == "oddscale":
    t = head[name + "_scale_inv"]
    t["shape"] = [1, t["shape"][0] * t["shape"][1]]
elif what == "int8":
    head[name]["dtype"] = "I8"
h = json.dumps(head).encode()
h += b" " * (-len(h) % 8)
open(dst + "/model.safetensors", "wb").write(struct.pack("<Q", len(h)) + h + data[8 + n :])
PY
}
broken() { # WHAT TEXT
    spoil $1
    exits 65 "$1" s convert "$tmp/$1" --to bf16 --save_path "$tmp/no"
    says "$2" "$1"
    nothing "$tmp/no" "$1"
}
broken nanscale "tensor 'model.layers.1.mlp.down_proj.weight' has NaN at [0,0] (with 'model.layers.1.mlp.down_proj.weight_scale_inv')"
broken nancode "has NaN at [0,3]"
broken short "is truncated"
broken noscale "tensor 'model.layers.1.mlp.down_proj.weight_scale_inv' is missing: 'model.layers.1.mlp.down_proj.weight' is F8_E4M3"
broken oddscale "'model.layers.1.mlp.down_proj.weight_scale_inv' has shape [1,"
broken int8 "is stored as UNKNOWN (I8), of which FLOAT can't be made: give the checkpoint that it was made from"
exits 0 "the original takes codes without a scale as they are" s convert "$tmp/noscale" --to bf16 --save_path "$tmp/bare" --compat peer
exits 1 "little memory" s convert "$tmp/fp8" --to bf16 --save_path "$tmp/no" --mem 4K
says "--mem of 0.0 MiB is too little" "little memory"

# ---- the target can't be written ----
exits 74 "no room" sh -c "ulimit -f 300; exec '$SLIMSCOPE' convert '$tmp/fp8' --to bf16 --save_path '$tmp/no'"
says "does not allow a file of" "no room"
nothing "$tmp/no" "no room"
exits 64 "what is there is not replaced" s convert "$tmp/fp8" --to bf16 --save_path "$tmp/fp8-mxfp8"
says "as ascendv1_saver wrote it: --force replaces it" "what is there is not replaced"
cp -r "$tmp/fp8-mxfp8" "$tmp/over"
exits 0 "with --force it is" s convert "$tmp/fp8" --to bf16 --save_path "$tmp/over" --force
equal "$tmp/over" "$tmp/fp8-out" "and nothing of the older output is left"
cat >"$tmp/locked.py" <<'PY'
import fcntl, os, subprocess, sys
d = sys.argv[2] + "/locked/.slimscope-huggingface"
os.makedirs(d)
f = open(d + "/lock", "w")
fcntl.flock(f, fcntl.LOCK_EX)
f.write("77\n")
f.flush()
sys.exit(subprocess.run([sys.argv[1], "convert", sys.argv[2] + "/fp8", "--to", "bf16", "--save_path", sys.argv[2] + "/locked"]).returncode)
PY
exits 74 "a lock" python3 "$tmp/locked.py" "$SLIMSCOPE" "$tmp"
says "another run (process 77) is writing to" "a lock"

# ---- stopped runs ----
run() { s convert "$tmp/big" --to mxfp8 --save_path "$tmp/$1" --threads 2 --progress json; }
python3 - "$tmp/big" <<'PY'
import json, os, struct, sys
os.makedirs(sys.argv[1])
rows, cols, n = 512, 2048, 24
head, at = {}, 0
for i in range(n):
    for end, d, shape, size in (("", "F8_E4M3", [rows, cols], rows * cols), ("_scale_inv", "F32", [4, 16], 256)):
        head["m.%d.a_proj.weight%s" % (i, end)] = {"dtype": d, "shape": shape, "data_offsets": [at, at + size]}
        at += size
h = json.dumps(head).encode()
h += b" " * (-len(h) % 8)
with open(sys.argv[1] + "/model.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(h)) + h)
    for i in range(n):
        f.write(bytes((j * 7 + i) % 120 for j in range(cols)) * rows + struct.pack("<64f", *(1 + j / 64 for j in range(64))))
PY
exits 0 "whole" run whole
python3 - "$SLIMSCOPE" "$tmp" <<'PY' >"$tmp/log" 2>&1 && ok "stopped" || { not_ok "stopped"; sed 's/^/# /' "$tmp/log"; }
import os, signal, subprocess, sys
p = subprocess.Popen([sys.argv[1], "convert", sys.argv[2] + "/big", "--to", "mxfp8", "--save_path", sys.argv[2] + "/stopped", "--threads", "1",
                      "--progress", "json"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
p.stderr.readline()
p.send_signal(signal.SIGINT)
err = p.communicate()[1].decode()
assert p.returncode in (0, 130), (p.returncode, err)
assert p.returncode == 0 or "--resume goes on" in err, err
PY
exits 0 "gone on with" s convert "$tmp/big" --to mxfp8 --save_path "$tmp/stopped" --resume
equal "$tmp/stopped" "$tmp/whole" "the same bytes as in one go"
same "$tmp/stopped/.slimscope.ascendv1_saver.json" "$tmp/whole/.slimscope.ascendv1_saver.json" "and the same manifest"
finish
