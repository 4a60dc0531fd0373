#!/bin/sh
# What a person decided, as rules over a recipe: switched, edited, moved, deleted, kept over a change of recipe, undone, and replayed.
. tests/tap.sh
M=lab_models/demo R=lab_practice/qwen3/qwen3-w8a8.yaml
head -n 3 lab_calib/mix_calib.jsonl >"$tmp/calib.jsonl"
# script NAME: standard input as a script; its standard output and error
script() { cat >"$tmp/$1.slim"; exits "${2:-0}" "$1" "$SLIMSCOPE" --script "$tmp/$1.slim"; }
get() { python3 -c 'import json,sys
v = json.load(open(sys.argv[1]))
for k in sys.argv[2].split("."): v = v[int(k) if isinstance(v, list) else k]
print(v)' "$tmp/$1" "$2"; }

# a redundant rule costs nothing, and takes nothing away when it is switched off
script rows <<EOT
open $M
exclude model.layers.6.mlp.down_proj
exclude model.layers.1.mlp.down_proj
exclude '*layers.{1,6}.mlp.down_proj'
rule --format json
EOT
cp "$tmp/out" "$tmp/rows.json"
has "$tmp/err" "nothing new: all of it is float already" "a rule that takes nothing new says so"
is "2 0 0" "$(get rows.json rules.2.hits) $(get rows.json rules.2.new) $(get rows.json rules.2.new_bytes)" "what is new is told from what it hits"
is "2" "$(get rows.json float)" "the float linears are the union"
script off <<EOT
open $M
exclude model.layers.6.mlp.down_proj
exclude model.layers.1.mlp.down_proj
exclude '*layers.{1,6}.mlp.down_proj'
rule off '*layers.{1,6}.mlp.down_proj'
rule off model.layers.6.mlp.down_proj
rule --format json
EOT
has "$tmp/err" "'*layers.{1,6}.mlp.down_proj' off: 0 linears changed" "rule off: what other rules hold stays"
has "$tmp/err" "'model.layers.6.mlp.down_proj' off: 1 linear changed" "rule off: what it alone holds goes"
cp "$tmp/out" "$tmp/off.json"
is "False True False 1" "$(get off.json rules.0.on) $(get off.json rules.1.on) $(get off.json rules.2.on) $(get off.json float)" "each row has its own switch"

# undo takes back the step itself, also one that selected nothing new
script undo <<EOT
open $M
exclude *down_proj
exclude model.layers.6.mlp.down_proj
undo
rule --format json
EOT
cp "$tmp/out" "$tmp/undo.json"
has "$tmp/err" "undone: rule 'model.layers.6.mlp.down_proj' is gone" "undo of such a rule takes that rule back"
is "8" "$(get undo.json float)" "and nothing else"

# a row of the table is a rule for what it takes; quantizing it again takes the rule away, or makes an exception
script group <<EOT
open $M
exclude model.layers.3.self_attn.k_proj
rule
include model.layers.3.self_attn.v_proj
exclude *layers.3.*
include model.layers.3.mlp.up_proj
rule --format json
EOT
has "$tmp/out" "  3   +93.0 KiB" "a member of a fused group is a rule for the group"
has "$tmp/out" "model.layers.3.self_attn.{q,k,v}_proj" "under the group's name"
sed '1,/^measured/d' "$tmp/out" >"$tmp/group.json"
is "*layers.3.* quantized" "$(get group.json rules.0.rule) $(get group.json rules.1.level)" "an exception stands behind the rule that it is from"
is "5" "$(get group.json float)" "and quantizes its group"

script changes <<EOT
open $M
exclude *layers.1.mlp.down_proj
exclude *layers.2.mlp.down_proj
rule edit *layers.1.mlp.down_proj *layers.{1,6}.mlp.down_proj
rule up *layers.2.mlp.down_proj
rule delete *layers.2.mlp.down_proj
undo
rule --format json
EOT
cp "$tmp/out" "$tmp/changes.json"
is "*layers.2.mlp.down_proj *layers.{1,6}.mlp.down_proj 3" "$(get changes.json rules.0.rule) $(get changes.json rules.1.rule) $(get changes.json float)" "rules are edited, moved, deleted and brought back"
script norow 65 <<EOT
open $M
exclude *down_proj
rule off *up_proj
EOT
has "$tmp/err" "there is no rule '*up_proj': there are '*down_proj'" "an unknown rule is told with those there are"
script suggestion 65 <<EOT
open $M
exclude *lm_haed
EOT
if grep -q "did you mean" "$tmp/err"; then not_ok "what can't be decided about is not suggested"; else ok "what can't be decided about is not suggested"; fi

# a change of recipe keeps what was decided, is one step, and says what it did
script recipe <<EOT
open $M
exclude *layers.{1,6}.mlp.down_proj
level W8A8 *layers.2.mlp.down_proj
recipe $R
undo
undo
redo
redo
rule --format json
EOT
cp "$tmp/out" "$tmp/recipe.json"
has "$tmp/err" "recipe qwen3-w8a8.yaml: 1 rule kept, 2 of 56 linears float; undo goes back" "a recipe says what it kept"
has "$tmp/err" "undone: recipe w8a8_static is open again with its 1 rule" "undo brings the recipe before back"
is "qwen3-w8a8.yaml 2" "$(get recipe.json recipe) $(get recipe.json float)" "redo opens it again with the rules"
script twice 64 <<EOT
open $M
recipe default
recipe $R
recipe $R
undo
undo
EOT
has "$tmp/err" "nothing to undo" "a recipe that is open already is no step"
printf 'apiversion: modelslim_v1\nspec:\n  process:\n    - type: linear_quant\n      qconfig:\n        act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}\n        weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}\n' >"$tmp/dynamic.yaml"
script dropped <<EOT
open $M
exclude *layers.3.mlp.down_proj
level W8A8 *layers.2.mlp.down_proj
exclude *layers.2.mlp.down_proj
include *layers.2.mlp.down_proj
exclude *layers.2.*
level W8A8 *layers.2.mlp.down_proj
recipe $tmp/dynamic.yaml
rule
undo
rule --format json
EOT
has "$tmp/err" "2 rules kept, 1 dropped (it has no level W8A8)" "a rule to a level that the new recipe has not is dropped, and said"
sed '1,/^measured/d' "$tmp/out" >"$tmp/dropped.json"
is "W8A8 7" "$(get dropped.json rules.2.level) $(get dropped.json float)" "undo brings it back"

# predictions: of one recipe, data and arithmetic; measured under another recipe is told so, and found again
script predict <<EOT
open $M
calib $tmp/calib.jsonl
set eval-tokens=256 ctx=128 threads=2
async analyze block_error
async measure
wait
rule --format json
exclude '*layers.{1,6}.mlp.down_proj'
measure
rule --format json
recipe $R
rule --format json
rule
measure
recipe default
rule --format json
rule off '*layers.{1,6}.mlp.down_proj'
rule --format json
rule on '*layers.{1,6}.mlp.down_proj'
exclude *layers.3.mlp.down_proj
rule --format json
history --save $tmp/predict.history
EOT
has "$tmp/out" "measured    not with this recipe; with another recipe (w8a8_static): KL" "text: the measurement of another recipe is told as such"
has "$tmp/out" "predicted   nothing: block_error is not known for 8 of 32 groups" "text: and nothing is predicted from it"
python3 - "$tmp/out" >"$tmp/predict.tap" <<'EOP'
import json, math, sys
text, at, seen = open(sys.argv[1]).read(), 0, []
while (at := text.find('{"recipe"', at)) >= 0:
    v, n = json.JSONDecoder().raw_decode(text[at:])
    seen.append(v)
    at += n
first, second, other, back, off, three = seen
def ok(good, name): print("ok" if good else "not ok", "-", name)
p = [v["prediction"] for v in seen]
ok([v["measurements"] for v in p] == [1, 2, 0, 2, 2, 2], "measurements are counted for each recipe")
ok(p[0]["kl"]["value"] == first["measured"]["kl"] and abs(p[0]["kl"]["high"] / p[0]["kl"]["value"] - 1.5) < 1e-9, "a measurement queued with its analysis counts; one leaves a factor of 1.5")
ok(p[1]["kl"]["high"] < 1.2 * p[1]["kl"]["value"] and "kl" not in p[2], "from two on less; another recipe's do not count")
ok(back["measured"] == second["measured"] and p[3] == p[1], "the measurement of this assignment is found again behind the other recipe")
ok(other["measured"]["of"] == "another recipe" and other["measured"]["recipe"] == "w8a8_static", "another recipe's measurement is told as such")
ok(off["measured"] == first["measured"], "and that without the rule")
ok(three["measured"]["of"] == "stale" and three["measured"]["differs"] == 1, "stale counts linears that differ")
ok(0 < three["measured"]["perplexity_change_se"] < 1, "the change of perplexity has a paired error")
EOP
relay "$tmp/predict.tap"
echo "export $tmp/again.yaml" >>"$tmp/predict.history"
exits 0 "the history replays" "$SLIMSCOPE" --script "$tmp/predict.history"
has "$tmp/again.yaml" "{1,3,6}.mlp.down_proj" "with its rules"
sed -n '/^{"recipe"/,$p' "$tmp/out" | tail -n 4 >"$tmp/again.txt"
has "$tmp/again.txt" '"of":"stale","differs":1' "and its measurements"
finish
