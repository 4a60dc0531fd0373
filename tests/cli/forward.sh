#!/bin/sh
# asan: yes
# slimscope forward: the file holds what the recorded one holds. (Values against the recordings: tests/unit/test_forward.c, with the
# tolerances; here a few through the command line.)
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
m=tests/golden/models/llama/fp32
cat >"$tmp/st.py" <<'PY'
import json, struct, sys
def load(p):
    f = open(p, "rb"); n = struct.unpack("<Q", f.read(8))[0]; h = json.loads(f.read(n)); b = f.read()
    return {k: (v["dtype"], v["shape"], b[v["data_offsets"][0]:v["data_offsets"][1]]) for k, v in h.items() if k != "__metadata__"}
PY
ids=$(cd "$tmp" && python3 -c 'import st,struct,sys
t=st.load(sys.argv[1])["input_ids"][2]
print(*struct.unpack("<%dq"%(len(t)//8),t),sep=",")' "$OLDPWD/$m/golden.safetensors")
exits 0 "forward runs" s forward --model_path $m --ids "$ids" --out "$tmp/f.safetensors"
is "" "$(cat "$tmp/out")" "stdout is empty"
cat >"$tmp/cmp.py" <<'PY'
import st, struct, sys
a, b = st.load(sys.argv[1]), {k: v for k, v in st.load(sys.argv[2]).items() if not k.startswith("rope.")}
assert sorted(a) == sorted(b), sorted(set(a) ^ set(b))
worst = 0
for k, (dt, shape, data) in b.items():
    assert a[k][:2] == (dt, shape), (k, a[k][:2], dt, shape)
    if dt != "F32": continue
    x, y = (struct.unpack("<%df" % (len(d) // 4), d) for d in (a[k][2], data))
    worst = max(worst, max(abs(p - q) for p, q in zip(x, y)) / max(abs(q) for q in y))
assert worst < 3e-5, worst
PY
if (cd "$tmp" && python3 cmp.py "$tmp/f.safetensors" "$OLDPWD/$m/golden.safetensors") >"$tmp/log" 2>&1; then ok "names, shapes and values"; else not_ok "names, shapes and values"; tail -n 2 "$tmp/log"; fi
exits 0 "exact arithmetic" s forward --model_path tests/golden/models/llama/bf16 --ids 1,2,3 --out "$tmp/b.safetensors" --dtype-sim exact --threads 1
exits 0 "text" s forward --model_path lab_models/demo --text 'The house' --out "$tmp/t.safetensors" --mem 1G

exits 64 "no out" s forward --model_path $m --ids 1
exits 64 "ids and text" s forward --model_path $m --ids 1 --text a --out "$tmp/x"
exits 64 "neither" s forward --model_path $m --out "$tmp/x"
for bad in 'a' '1,,2' '1,' '-1' '1;2' '' ' 1' '99999999999999999999'; do
    exits 64 "ids '$bad'" s forward --model_path $m --ids="$bad" --out "$tmp/x"
done
exits 64 "an id outside the vocabulary" s forward --model_path $m --ids 1,128 --out "$tmp/x"
has "$tmp/err" "vocabulary has 128" "is told"
exits 64 "an empty text" s forward --model_path lab_models/demo --text '' --out "$tmp/x"
exits 65 "no model" s forward --model_path "$tmp" --ids 1 --out "$tmp/x"
exits 74 "out in no folder" s forward --model_path $m --ids 1 --out "$tmp/no/x"
if [ -e "$tmp/x" ]; then not_ok "refusals leave no file"; else ok "refusals leave no file"; fi
finish
