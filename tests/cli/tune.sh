#!/bin/sh
# fit, front and tune: levels for a goal, foretold and measured; stopped, killed, gone on with.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
m=lab_models/demo
run="--max-samples 4 --seq-len 64 --threads 1"
tune() { s tune --model_path $m $run "$@"; }
script() { printf '%s\n' "open $m" "set max-samples=4" "set seq-len=64" "set threads=1" "$@" >"$tmp/s.slim"; s --script "$tmp/s.slim"; }
py() { python3 -c "import json,sys
d=json.load(open(sys.argv[1]))
$2" "$1"; }

# ---- tune ----
exits 0 "tune" tune --until kl=0.02 --out "$tmp/best.yaml" --format json
cp "$tmp/out" "$tmp/tune.json"
is "True met True True True" "$(py "$tmp/tune.json" 'r=d["measurements"]
b=[x for x in r if x["best"]]
print(d["met"], d["state"], len(b)==1 and b[0]["kl"]<=0.02 and b[0]["holds"], all(x["bytes"]>=b[0]["bytes"] for x in r if x["holds"]), 3<=len(r)<=8)')" "the fewest bytes that hold, in few measurements"
exits 0 "the YAML is a recipe" s measure --model_path $m $run --recipe "$tmp/best.yaml" --format json
is "True True" "$(py "$tmp/out" 'best=[x for x in json.load(open("'"$tmp"'/tune.json"))["measurements"] if x["best"]][0]
print(abs(d["kl"]["mean"]-best["kl"])<1e-9, d["bytes"]==best["bytes"])')" "which measures as the search did"
exits 1 "a goal that nothing holds" tune --until ppl=-50%
has "$tmp/err" "tune ppl=-50%: not reached after" "is said"
has "$tmp/out" "the measured set of least loss is in place" "with what there is"
exits 64 "bytes that can't be had" tune --until bytes=1M
has "$tmp/err" "from 6.4 to 10.5 MiB can be had" "are refused with what can"
for g in "kl" "kl=x" "ppl=3" "bits=5"; do exits 64 "no goal: $g" tune --until "$g"; done
exits 64 "without a goal" tune
exits 0 "bytes" tune --until bytes=+600K --format json
is "True True" "$(py "$tmp/out" 'b=[x for x in d["measurements"] if x["best"]][0]
print(b["bytes_back"]<=600*1024, len(d["measurements"])<=2)')" "the best sets of a budget are measured"

# ---- fit and front ----
exits 64 "fit before block_error" script "fit bytes=+300K"
has "$tmp/err" "analyze block_error first" "says what to run"
exits 64 "fit before a measurement" script "analyze block_error" "fit kl=0.02"
has "$tmp/err" "measure first" "says so, too"
exits 0 "fit" script "analyze block_error" "measure" "fit bytes=+300K --dry-run" "fit kl=0.02 --format json" "rule --format json" "undo" "rule --format json" "front --format json"
pick() { python3 -c "import json,sys
t=open(sys.argv[1]).read(); d=json.JSONDecoder().raw_decode(t[t.index(sys.argv[2]):])[0]
$2" "$tmp/out" "$1"; }
has "$tmp/out" "would need" "--dry-run only shows"
grep -c '"float":0,"linears":56' "$tmp/out" >"$tmp/n"
is 1 "$(cat "$tmp/n")" "one undo takes all of it back"
is "True" "$(pick '{"goal"' 'k=d["kl"]
print(d["applied"] and 0 < k["low"] < k["value"] <= 0.0200001 < k["high"] and k["rough"] and d["groups"]==len(d["changes"])>0)')" "JSON has the range"
is "True True" "$(pick '{"front"' 'r=d["front"]; p=[x["kl"]["value"] for x in r if "kl" in x]
print(p==sorted(p,reverse=True) and len(p)==32, sum("knee" in x for x in r)==1 and sum("kl_measured" in x for x in r)==1)')" "the front falls, with its knee and the measurement"
exits 0 "text of the front" script "analyze block_error" "front"
has "$tmp/out" "(knee)" "marks the knee"

# ---- grow, trim, sets ----
exits 0 "grow, trim and kept sets" script "analyze block_error" "set budget=+200K" "grow 2" "keep A" "grow" "keep B" "measure" "trim" "swap" "swap B" "sets --format json" "sets" "history"
has "$tmp/err" "grow: 2 groups, last" "grow says what it did"
has "$tmp/err" "trim: model.layers." "so does trim"
has "$tmp/err" "set A kept: " "and keep"
has "$tmp/err" "set B: " "and swap"
is "True True" "$(pick '{"sets"' 'a,b=d["sets"]
print(b["present"] and not a["present"] and b["kl_measured"]>0 and a["kl_predicted"]>0 and b["kl_predicted"] is None,
len(d["differences"])==1 and d["differences"][0]["bytes"]==b["bytes"]-a["bytes"]>0 and d["differences"][0]["groups"][0]["to"]=="float")')" "the kept sets and their difference"
has "$tmp/out" "swap B" "they are in the history"
exits 0 "what keep saw is not left out of the history" script "exclude *.0.mlp.down_proj" "keep A" "undo" "swap" "undo" "history --save $tmp/kept.slim"
exits 0 "its replay" sh -c 'echo sets | cat "$1" - >"$2"; "$SLIMSCOPE" --script "$2"' x "$tmp/kept.slim" "$tmp/again.slim"
has "$tmp/out" "A        1 of 56 linears float" "keeps the same set"
exits 64 "a set that is not kept" script "keep A" "swap C"
has "$tmp/err" "there are A" "names those that are"
exits 64 "no group is none" script "analyze block_error" "grow 0"
exits 64 "nothing to take back" script "analyze block_error" "trim"
has "$tmp/err" "nothing was given back" "says so"
exits 0 "an export against a budget" script "exclude *.6.mlp.down_proj" "set budget=+100K" "export $tmp/over.yaml" "set budget=+400K" "export $tmp/within.yaml"
cat "$tmp/out" "$tmp/err" >"$tmp/both"
has "$tmp/both" "over the budget of 100 KiB by 26 KiB: 'trim'" "what is over it is remarked"
has "$tmp/both" "within the budget: 126 KiB of 400 KiB" "what is within it is told"
exits 64 "no such budget" script "set budget=lots"

# ---- interactions ----
exits 0 "interactions of what is given back" script "analyze block_error" "grow 4" "interact --dry-run" "interact --format json" "interact --dry-run"
has "$tmp/err" "4 groups alone, together and 6 pairs of the 4 that do most: 11 sets to measure, 128 tokens each" "the cost comes first"
has "$tmp/err" "all of it is known" "what is known costs nothing"
is "True True" "$(pick '{"model"' 'p=d["pairs"]
print(d["known"]==d["sets"]==11 and len(d["groups"])==4 and len(p)==6 and d["joint"]>0 and abs(d["interaction"]-(d["joint"]/d["sum"]-1))<1e-9,
all(abs(p[i]["joint"]-p[i]["sum"])>=abs(p[i+1]["joint"]-p[i+1]["sum"]) for i in range(5)))')" "JSON has the joint effect and the pairs, the worst first"
exits 64 "of one group" script "exclude *.0.mlp.down_proj" "interact"
has "$tmp/err" "1 is given back" "there are none"
exits 0 "without a session" s interact --model_path $m $run "*.{1,6}.mlp.down_proj" --pairs 1
has "$tmp/out" "mlp.down_proj x model.layers" "the pair is named"

# ---- stopped, killed ----
cat >"$tmp/lib.py" <<'PY'
import json, os, signal, subprocess, sys
exe, model = os.path.realpath(os.environ["SLIMSCOPE"]), "lab_models/demo"
def until(p, tried):
    for line in p.stderr:
        if line.startswith("{") and "%d tried" % tried in json.loads(line)["title"]: return
    sys.exit("ended before")
PY
cat >"$tmp/stop.py" <<'PY'
from lib import *
p = subprocess.Popen([exe, "tune", "--model_path", model, "--max-samples", "4", "--seq-len", "64", "--threads", "1", "--until", "kl=0.02", "--progress",
    "json", "--format", "json", "--out", sys.argv[1]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
until(p, 2)
p.send_signal(signal.SIGINT)
d = json.loads(p.communicate(timeout=120)[0])
print(p.returncode, d["state"], len(d["measurements"]) >= 2, os.path.exists(sys.argv[1]))
PY
export SLIMSCOPE
is "130 stopped True True" "$(PYTHONPATH=$tmp timeout 200 python3 "$tmp/stop.py" "$tmp/stopped.yaml" 2>&1)" "^C keeps the best so far"
cat >"$tmp/kill.py" <<'PY'
from lib import *
p = subprocess.Popen([exe, "shell", model, "--progress", "json"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
p.stdin.write("set max-samples=4\nset seq-len=64\nset threads=1\ntune --until kl=0.02\n"); p.stdin.flush()
until(p, 2)
p.kill(); p.wait()
PY
PYTHONPATH=$tmp timeout 200 python3 "$tmp/kill.py"
exits 0 "killed, and gone on with" s resume --headless
has "$tmp/out" "tune kl=0.02: held after" "to the end"
journal=$(ls "$XDG_STATE_HOME"/slimscope/sessions/*/journal)
is "$(grep -c '^ [* ][ 0-9][0-9] ' "$tmp/out")" "$(python3 -c 'import sys; print(open(sys.argv[1],"rb").read().count(b"\"t\":\"effect\""))' "$journal")" "nothing was measured twice"
is "$(py "$tmp/tune.json" 'print(len(d["measurements"]))')" "$(grep -c '^ [* ][ 0-9][0-9] ' "$tmp/out")" "and it came to what it would have"
finish
