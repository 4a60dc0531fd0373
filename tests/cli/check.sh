#!/bin/sh
# asan: yes
# slimscope check: every kind of damage is named with its tensor and its place; exit codes; recipes.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
cat >"$tmp/damage.py" <<'PY'
# damage.py IN OUT EDIT...: copies a model's folder (no subfolders); EDIT is NAME:INDEX:VALUE (index or "all"), of F32 tensors
import json, os, shutil, struct, sys
src, dst = sys.argv[1:3]
os.makedirs(dst)
for f in ("config.json", "model.safetensors"): shutil.copy(os.path.join(src, f), dst)
p = os.path.join(dst, "model.safetensors")
b = bytearray(open(p, "rb").read())
n = struct.unpack("<Q", b[:8])[0]
h = json.loads(b[8:8 + n])
for e in sys.argv[3:]:
    name, at, value = e.rsplit(":", 2)
    lo, hi = h[name]["data_offsets"]
    at, _, count = at.partition("+")
    for i in range((hi - lo) // 4) if at == "all" else range(int(at), int(at) + int(count or 1)):
        struct.pack_into("<f", b, 8 + n + lo + 4 * i, float(value))
open(p, "wb").write(b)
PY
g=tests/golden/models/llama/fp32 q=model.layers.0.self_attn.q_proj.weight d=model.layers.1.mlp.down_proj.weight
damage() { python3 "$tmp/damage.py" $g "$@"; }

exits 0 "a good model" s check $g
is "$g: 30 tensors, 194.8 KiB in 1 file: nothing bad" "$(cat "$tmp/out")" "is told so"
exits 0 "bf16" s check tests/golden/models/qwen3/bf16 --threads 1
exits 0 "one file" s check $g/model.safetensors
exits 0 "the demo model" s check lab_models/demo

damage "$tmp/nan" $q:53:nan $q:70:inf
exits 65 "NaN" s check "$tmp/nan"
has "$tmp/out" "bad   $q  F32 [40,40]: 1 NaN and 1 Inf, first NaN at [1,13]" "names tensor and place"
has "$tmp/out" ": 1 bad, 0 to know" "counts"
is "slimscope: check: 1 of 1 is bad" "$(cat "$tmp/err")" "one line on stderr"
damage "$tmp/zero" $q:all:0
exits 65 "all zero" s check "$tmp/zero"
has "$tmp/out" "$q  F32 [40,40]: all zero" "is named"
damage "$tmp/huge" $q:5:1e30
exits 65 "absurd" s check "$tmp/huge"
has "$tmp/out" "1 values above 100000 (largest 1e+30), first at [0,5]" "is named"
damage "$tmp/tiny" $q:all:1e-30
exits 65 "vanishing" s check "$tmp/tiny"
has "$tmp/out" "largest magnitude 1e-30, below 1e-20" "is named"
damage "$tmp/rows" $q:80+80:0 model.embed_tokens.weight:0+40:0
exits 65 "constant rows" s check "$tmp/rows"
has "$tmp/out" "bad   $q  F32 [40,40]: 2 of 40 rows are one value repeated, first row 2" "are counted"
has "$tmp/out" "note  model.embed_tokens.weight  F32 [128,40]: 1 of 128 rows" "in the embedding they are a note"
damage "$tmp/embed" model.embed_tokens.weight:0+40:0 model.norm.weight:all:0
exits 0 "notes alone" s check "$tmp/embed"
has "$tmp/out" "note  model.norm.weight  F32 [40]: all zero" "a vector of zeros is a note"

damage "$tmp/size" $q:0:1
sed -i 's/"hidden_size": 40/"hidden_size": 64/' "$tmp/size/config.json"
exits 65 "a size against config.json" s check "$tmp/size"
has "$tmp/out" "has shape [128,40], config.json says [128,64]" "is named"
damage "$tmp/short" $q:0:1
truncate -s 100000 "$tmp/short/model.safetensors"
exits 65 "a file cut short" s check "$tmp/short"
has "$tmp/out" "model.safetensors" "is named"

damage "$tmp/foreign" $q:0:1
sed -i 's/"model_type": "llama"/"model_type": "newer"/; s/"hidden_size": 40/"hidden_size": 64/' "$tmp/foreign/config.json"
exits 0 "a family that is not built in" s check "$tmp/foreign"
has "$tmp/out" "note  " "is a note: its tensors are what is checked"
echo '{' >"$tmp/foreign/config.json"
exits 65 "a config.json that is none" s check "$tmp/foreign"

# several paths: each has its report, the worst decides
exits 65 "several" s check $g "$tmp/nan" "$tmp/huge"
is 3 "$(grep -c ' tensors, ' "$tmp/out")" "all are read"
has "$tmp/err" "check: 2 of 3 are bad" "counted"
exits 74 "a missing one" s check $g "$tmp/nan" "$tmp/none"
is 2 "$(grep -c ' tensors, ' "$tmp/out")" "the others are read"
mkdir "$tmp/empty"
exits 65 "an empty folder" s check "$tmp/empty"

# recipes
r=tests/golden/config/broken
exits 0 "a recipe" s check $r/00-good-base.yaml
exits 65 "a broken recipe" s check $r/06-alpha-out-of-range.yaml $r/10-illegal-character.yaml
has "$tmp/out" "06-alpha-out-of-range.yaml: recipe: 1 bad" "is told"
has "$tmp/out" "10-illegal-character.yaml:" "and the other"

# every recorded document: refused exactly where the peer's loader refuses it
while read -r verdict name _; do
    name=${name%:}
    case $name in 0* | 1* | 20*) ;; *) continue ;; esac
    want=65
    [ "$verdict" = VALID ] && want=0
    exits $want "$name is $verdict" s check "$r/$name"
done <<EOF
$(grep -v '^#' $r/EXPECTED.txt)
EOF
printf 'apiversion: multimodal_vlm_modelslim_v1\nspec: {runner: model_wise}\n' >"$tmp/vlm.yaml"
exits 0 "a document that can't run" s check "$tmp/vlm.yaml"
has "$tmp/out" "vlm.yaml:1:13: can't run here: apiversion multimodal_vlm_modelslim_v1: vision-language" "is a note"
has "$tmp/out" "vlm.yaml:2:16: runner 'model_wise': the peer takes layer_wise instead" "with what is ignored"
printf 'apiversion: modelslim_v0\nspec: {calib_cfg: {pr: 0.5}}\n' >"$tmp/v0.yaml"
exits 0 "an old document" s check "$tmp/v0.yaml"
has "$tmp/out" "v0.yaml:2:24: can't run here: can't be translated to modelslim_v1: pr " "names what has no counterpart"
has "$tmp/out" "0 bad, 2 to know" "all of it"

# JSON: one document
exits 65 "json" s check --format json $g "$tmp/nan" $r/00-good-base.yaml $r/18-empty-file.yaml
if python3 - "$tmp/out" $q <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))["paths"]
assert [p["bad"] for p in d] == [0, 1, 0, 1], d
assert d[0]["tensors"] == 30 and d[0]["files"] == 1 and d[0]["kind"] == "model" and d[2]["kind"] == "recipe"
f = d[1]["findings"]
assert f[0]["tensor"] == sys.argv[2] and f[0]["verdict"] == "bad" and "first NaN at [1,13]" in f[0]["what"], f
PY
then ok "is one document"; else not_ok "is one document"; fi
exits 0 "progress" s check --progress json $g
has "$tmp/err" '{"phase":"check","done":' "is told"
exits 64 "no path" s check
exits 64 "threads" s check --threads -1 $g
finish
