#!/bin/sh
# asan: yes
# slimscope generate: what it says is the same at every number of threads, in every form, in float and quantized. (Against passes
# over whole texts: tests/unit/test_decode.c; against what a measurement runs: tests/unit/test_eval_native.c.)
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
M=lab_models/demo
export SLIMSCOPE_DATA=$PWD
exits 0 "one prompt" s generate $M --prompt 'The old house' --max-tokens 12 --threads 1
cp "$tmp/out" "$tmp/one"
has "$tmp/out" "was a" "it goes on with the text"
has "$tmp/err" "12 tokens in" "and tells what it took"
has "$tmp/err" "weights that stay ready" "and the memory"
exits 0 "two threads" s generate $M --prompt 'The old house' --max-tokens 12 --threads 2
is "$(cat "$tmp/one")" "$(cat "$tmp/out")" "say the same"
little=40M
[ -z "${SLIMSCOPE_SAN:-}" ] || little=100M # the program itself takes more there
exits 0 "little memory" s generate $M --prompt 'The old house' --max-tokens 12 --mem $little
is "$(cat "$tmp/one")" "$(cat "$tmp/out")" "says the same"
exits 1 "no memory" s generate $M --prompt 'The old house' --mem 12M
has "$tmp/err" "raise --mem" "is one clear line"
printf '{"text":"The old house"}\n{"text":"She was"}\n\n{"text":"The old house"}\n' >"$tmp/p.jsonl"
exits 0 "several" s generate $M --prompts "$tmp/p.jsonl" --max-tokens 12 --format json
cat >"$tmp/look.py" <<'PY'
import json, sys
d = json.load(open(sys.argv[1])); r = d["results"]
assert len(r) == 3 and not d["quantized"], d
assert r[0] == r[2] and r[0]["text"] != r[1]["text"], r
assert r[0]["text"] + "\n" == open(sys.argv[2]).read(), (r[0]["text"], open(sys.argv[2]).read())
assert all(len(x["ids"]) == 12 and x["end"] == "length" for x in r), r
PY
if python3 "$tmp/look.py" "$tmp/out" "$tmp/one" >"$tmp/log" 2>&1; then ok "are what each is alone"; else not_ok "are what each is alone"; tail -n 2 "$tmp/log"; fi
exits 0 "quantized" s generate $M --prompt 'The old house' --max-tokens 12 --recipe lab_practice/default/default-w8a8-dynamic.yaml --max-samples 2 --seq-len 32
cp "$tmp/out" "$tmp/quantized"
printf 'open %s\nrecipe lab_practice/default/default-w8a8-dynamic.yaml\nset max-samples=2\nset seq-len=32\ngenerate --prompt "The old house" --max-tokens 12\ngenerate --float --prompt "The old house" --max-tokens 12\n' $M >"$tmp/s.slim"
exits 0 "in a script" s --script "$tmp/s.slim"
cat "$tmp/quantized" "$tmp/one" >"$tmp/both"
is "$(cat "$tmp/both")" "$(cat "$tmp/out")" "the present decision, and the float model"
mkdir "$tmp/chat" && for f in "$M"/*; do ln -s "$PWD/$f" "$tmp/chat/"; done
rm "$tmp/chat/tokenizer_config.json"
printf '{"chat_template":"{%% for m in messages %%}<|im_start|>{{ m.role }}"}' >"$tmp/chat/tokenizer_config.json"
exits 0 "chat" s generate "$tmp/chat" --prompt 'Hello' --chat --max-tokens 2 --format json
has "$tmp/out" 'Hello<|im_end|>' "is written as the template's family does"
printf '{"chat_template":"{{ something else }}"}' >"$tmp/chat/tokenizer_config.json"
exits 65 "another template" s generate "$tmp/chat" --prompt 'Hello' --chat
has "$tmp/err" "not known here" "is refused"

exits 64 "no prompt" s generate $M
exits 64 "two" s generate $M --prompt a --prompts "$tmp/p.jsonl"
exits 64 "no model" s generate --prompt a
exits 64 "no token to make" s generate $M --prompt a --max-tokens 0
exits 65 "an empty prompt" s generate $M --prompt ''
has "$tmp/err" "prompt 1 has no token" "is told"
exits 74 "no file" s generate $M --prompts "$tmp/none.jsonl"
finish
