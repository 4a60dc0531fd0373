#!/bin/sh
# Several ranks: metrics that are divided by texts have the bytes of one rank, alone and together in one pass.
cd "$(dirname "$0")/../.." || exit 1
. tests/tap.sh
. tests/ranks.sh
demo=lab_models/demo
head -n 24 lab_calib/boolq.jsonl >"$tmp/texts.jsonl"
texts=$tmp/texts.jsonl
analyze "act_outliers output_outliers massive text_range" "of what flows" 2
analyze fisher "with gradients" 3
# second moments of gptq go from rank to rank
cat >"$tmp/moments.yaml" <<'END'
apiversion: modelslim_v1
metadata:
  config_id: moments
spec:
  process:
    - type: linear_quant
      qconfig:
        act: {scope: per_tensor, dtype: int8, symmetric: false, method: histogram}
        weight: {scope: per_channel, dtype: int8, symmetric: true, method: gptq}
      include: ['*layers.{1,3}.*']
END
analyze "block_error --recipe $tmp/moments.yaml" "with second moments" 2
python3 -c 'import random
random.seed(3)
for n in (512, 3, 1, 700, 520, 40, 600): print("{\"input_ids\":%s}" % [random.randrange(2, 60) for _ in range(n)])' >"$tmp/ids.jsonl"
demo=tests/golden/models/qwen3_moe/fp32 texts=$tmp/ids.jsonl
analyze "local_error kurtosis" "of experts' outputs" 3
analyze "block_error --recipe $tmp/moments.yaml" "with second moments of experts" 3
analyze "coverage massive act_outliers text_range" "of experts, with a rank that has no text" 7
texts=$tmp/short.jsonl demo=tests/golden/models/deepseek_v32/fp32
python3 -c 'for n in (60, 3, 1, 33): print("{\"input_ids\":%s}" % [2 + (7 * i + n) % 50 for i in range(n)])' >"$texts"
analyze "block_error local_error" "of what an indexer chose" 3
# what is no number is told by its place among all texts
cp -r lab_models/demo "$tmp/nan"
python3 - "$tmp/nan" "$tmp/nan.jsonl" <<'END'
import json, struct, sys
path = sys.argv[1] + "/model.safetensors"
f = open(path, "r+b")
n = struct.unpack("<Q", f.read(8))[0]
head = json.loads(f.read(n))
t = head["model.embed_tokens.weight"]
row = (t["data_offsets"][1] - t["data_offsets"][0]) // t["shape"][0]
f.seek(8 + n + t["data_offsets"][0] + 200 * row)
f.write(b"\xff" * row)
with open(sys.argv[2], "w") as out:
    for i in range(6):
        print(json.dumps({"input_ids": [20 + (i * 7 + k) % 100 for k in range(40)] + [200] * (i == 4)}), file=out)
END
demo=$tmp/nan texts=$tmp/nan.jsonl
analyze "act_outliers massive text_range kurtosis" "of texts with NaN" 3
has "$tmp/one" "sample 4 token 40" "whose place is told"
# stopped on three ranks, one process goes on: rank 0 kept the stream of all texts
export XDG_STATE_HOME="$tmp/state"
mkdir "$XDG_STATE_HOME"
ranks 3 "$mpi" analyze --model_path lab_models/demo --metrics kurtosis --session three --progress json >"$tmp/out" 2>"$tmp/err" &
until grep -q '"phase":"layer","done":[2-9]' "$tmp/err"; do sleep 0.05; done
$SLIMSCOPE attach three --cancel >"$tmp/stopped"
wait
has "$tmp/stopped" "stopped at" "analyze on 3 ranks is stopped"
cp -r "$XDG_STATE_HOME" "$tmp/again"
exits 0 "one process goes on" $SLIMSCOPE resume three --headless
XDG_STATE_HOME=$tmp/again exits 0 "so do two ranks" ranks 2 "$mpi" resume three --headless
exits 0 "another does all of it" $SLIMSCOPE analyze --model_path lab_models/demo --metrics kurtosis --session one
python3 - "$XDG_STATE_HOME"/slimscope/sessions/*/journal "$tmp/again"/slimscope/sessions/*/journal >"$tmp/rows" <<'END'
import json, sys
def rows(path):
    text = open(path, "rb").read().decode("latin-1")
    at, out = text.find('{"seq"'), {}
    while at >= 0:
        o, end = json.JSONDecoder().raw_decode(text, at)
        if o["t"] == "rows":
            out[o["layer"]] = (o["stream"], o["rows"])
        at = text.find('{"seq"', end)
    return out
a, b, c = map(rows, sys.argv[1:])
print(len(a), a == b == c)
END
is "8 True" "$(cat "$tmp/rows")" "with the same numbers and streams"
finish
