#!/bin/sh
# guide: the five steps without a screen: runs, applies, skips, evidence, JSON, a report, killed and gone on with.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
m=lab_models/demo
few="set max-samples=4 seq-len=64 threads=1 eval-tokens=256"
script() { printf '%s\n' "open $m" "$few" "$@" >"$tmp/s.slim"; s --script "$tmp/s.slim"; }
# the last JSON document that was printed, as d
py() { python3 -c "import json,sys
t=open(sys.argv[1]).read(); at=0; d=None
while True:
    at=t.find('{\"goal\":', at)
    if at<0: break
    d,n=json.JSONDecoder().raw_decode(t[at:]); at+=n
e={x['id']: x for st in d['steps'] for x in st['entries']}
st={x['id']: x for x in d['steps']}
$2" "$1"; }

exits 0 "it lists its steps" script "guide"
has "$tmp/out" "no goal yet, o sets one: guide goal ppl=+1%" "and asks for a goal"
has "$tmp/out" "nothing of the open recipe that this is for" "and says what is not for this recipe"
has "$tmp/out" "next: guide run S1a" "and what comes next"
printf 'apiversion: modelslim_v1\nspec:\n  process: [{type: fa3_quant}]\n' >"$tmp/fa3.yaml"
script "guide --format json" >"$tmp/plain.json" 2>/dev/null
script "recipe $tmp/fa3.yaml" "guide --format json" >"$tmp/fa3.json" 2>/dev/null
is "$(py "$tmp/plain.json" 'print(e["S2i"]["state"])') $(py "$tmp/fa3.json" 'print(e["S2i"]["state"])')" "not now todo" "kv_smooth is for attention with a scale for each head"
exits 64 "nothing is open" sh -c "echo guide | '$SLIMSCOPE' --script -"
exits 64 "no such entry" script "guide run S7"
has "$tmp/err" "the guide has no 'S7'" "is named"
exits 64 "no such deed" script "guide rin S3a"
has "$tmp/err" "guide has no 'rin': there are report, goal, run" "is told those there are"
exits 64 "a skip without a reason" script "guide skip S2"
has "$tmp/err" "why is S2 skipped?" "is asked for it"
exits 64 "a goal that is no loss" script "guide goal bytes=+20M"
exits 64 "a method of other weights" script "guide run S3h"
has "$tmp/err" "nothing of the open recipe that this is for" "is refused with the reason"

exits 0 "from the goal to an applied method" script "guide goal ppl=+1%" "guide run" "guide answer S1a yes 'no score published'" "guide skip S2 'engine cannot rotate'" \
    "guide evidence S1 'GPQA float 51.5'" "guide run S3" "guide --format json" "guide whatif S3a" "guide apply S3a" "guide --format json" "history" "undo" "measure"
cp "$tmp/out" "$tmp/flow"
is "ppl=+1% True skipped done yes" "$(py "$tmp/flow" 'print(d["goal"], d["measured"], st["S2"]["state"], e["S1a"]["state"], "yes" if "answered yes" in e["S1a"]["evidence"] else "no")')" "what was said stands there"
is "no score published; GPQA float 51.5" "$(py "$tmp/flow" 'print(e["S1a"]["note"])')" "with its notes"
is "has it True 2 1" "$(py "$tmp/flow" 'print(e["S3a"]["state"], "better" in e["S3a"]["evidence"], e["S3a"]["measurement"], e["S3a"]["against"])')" "the method that helped is in, with what was measured"
has "$tmp/flow" "+          scope: per_token" "whatif shows the recipe's difference"
has "$tmp/flow" "guide skip S2 'engine cannot rotate'" "every line is in the history"
is "True True" "$(py "$tmp/flow" 'tried=[x for x in st["S3"]["entries"] if "measurement" in x]
print(len(tried)>=4, all(x["measurement"]!=x["against"] for x in tried if x["id"] not in ("S3d",)))')" "every method was measured"

exits 0 "roll back" script "guide goal kl=0.03" "guide run S5a" "guide run S5b" "guide run S5d" "guide apply S5d" "exclude *layers.0.self_attn.o_proj" "guide run S5f" "guide --format json" "guide report $tmp/report"
is "True not needed not needed" "$(py "$tmp/out" 'print(d["met"], e["S5e"]["state"], e["S3a"]["state"])')" "a goal that is met ends it"
is "True True" "$(py "$tmp/out" 'print(e["S5f"]["state"] in ("better","has it"), "measurement" in e["S5b"])')" "what is not needed is found by measuring"
has "$tmp/report" "=== guide: goal kl=0.03 MET" "the report says so"
has "$tmp/report" "groups weighed" "with the evidence"
exits 0 "the search" script "guide goal kl=0.03" "guide run S5e" "guide --format json"
is "True done" "$(py "$tmp/out" 'print(d["met"], e["S5e"]["state"])')" "finds a set that holds"
is "yes" "$(py "$tmp/out" 'import re; print("yes" if re.match(r"goal kl=0.03 held after \d+ measurements?: KL [0-9.e-]+ \(#\d+\), [+-][0-9.]+ MiB$", e["S5e"]["evidence"]) and "measurement" in e["S5e"] else e["S5e"])')" "its entry tells how many measurements, what they found, and what it costs"

exits 0 "another calibration set" script "guide goal kl=0.01" "guide run S1" "guide --format json" "calib drop 2" "guide run S4c" "guide --format json" "guide run S4b" "guide"
is "done 2 1 True" "$(py "$tmp/out" 'print(e["S4c"]["state"], e["S4c"]["measurement"], e["S4c"]["against"], "not comparable" not in e["S4c"]["evidence"])')" "is measured against the one before"
has "$tmp/out" "many ranges alone" "and what single texts do is told"
exits 0 "texts left out, one at a time" script "guide goal kl=0.01" "guide run S1" "guide run S4b" "guide run S4d" "guide --format json"
is "done True not now" "$(py "$tmp/out" 'print(e["S4d"]["state"], "of 4 texts" in e["S4d"]["evidence"] or "better without" in e["S4d"]["evidence"], e["S4c"]["state"])')" "are told, and are no change of the set"
exits 64 "a set that is as it was" script "guide run S1" "guide run S4c"
has "$tmp/err" "the set is as it was" "has nothing to measure"

# ---- on the screen, in Chinese: what was found, too ----
printf '%s\n' "open $m" "$few" "guide goal ppl=+1%" "guide run S3a" "screen guide" >"$tmp/zh.slim"
LC_ALL=C.UTF-8 s --ui --size 160x40 --lang zh --script "$tmp/zh.slim" --dump-screen "$tmp/zh" 2>"$tmp/err"
has "$tmp/zh" "目标 ppl=+1% 未达到: 困惑度 +" "the goal's line"
has "$tmp/zh" "困惑度相对浮点 +" "the noise of the drop"
has "$tmp/zh" "（对 #1）" "what was measured, and against what"
is "" "$(grep -E 'perplexity|against|measured' "$tmp/zh")" "no evidence is in English"

# ---- killed and gone on with ----
root=$XDG_STATE_HOME/slimscope/sessions
rm -rf "$root"
cat >"$tmp/kill.py" <<'PY'
import os, subprocess, sys
p = subprocess.Popen([os.path.realpath(os.environ["SLIMSCOPE"]), "shell", "lab_models/demo", "--progress", "json"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
p.stdin.write("set max-samples=4 seq-len=64 threads=1 eval-tokens=256\nguide goal ppl=+1%\nguide skip S2 'engine cannot rotate'\nguide answer S1a unknown\nguide run S3a\nguide run S5a\n")
p.stdin.flush()
for line in p.stderr:
    if line.startswith("{") and "block_error" in line: break
p.kill(); p.wait()
PY
SLIMSCOPE=$SLIMSCOPE timeout 300 python3 "$tmp/kill.py" >/dev/null
cat >"$tmp/again.py" <<'PY'
import os, sys
sys.path.insert(0, "tests/lib")
from pty_term import Program
p = Program([os.environ["SLIMSCOPE"], "resume", "--no-run", "--glyphs", "ascii"], dict(os.environ, TERM="xterm-256color", LC_ALL="C.UTF-8"), 30, 120, limit=120)
p.see("Rank")
p.keys("8")
for text in ("goal ppl=+1% NOT MET", "engine cannot rotate", "against #1: better"):
    p.see(text)
p.keys("G")
p.see("S5f")
p.keys(":guide run S3a\r")
p.see("known already: nothing had to run")
p.see("take S3a")
p.keys("gna") # from the top to what is to be taken
p.see("S3a is in")
p.keys(":quit!\r") # the analysis that was killed is queued again
print(p.finish())
PY
is "exit 0" "$(PYTHONDONTWRITEBYTECODE=1 python3 "$tmp/again.py" 2>&1 | tail -n 1)" "killed, resumed: all of it is on the screen, nothing is measured twice, the entry applies"
finish
