#!/bin/sh
# asan: yes
# tsan: yes
# The command language without a screen: scripts, the shell, history, replay, sessions.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
root=$PWD calib=$PWD/tests/golden/analysis/_models/calib5.jsonl model=$PWD/tests/golden/analysis/_models/llama-fp32
cat >"$tmp/a.slim" <<SLIM
#!slimscope -x
# model $model
open $model --model_type llama
calib '$calib'   # with a comment
set threads=2 seq-len=64
set max-samples 3

analyze kurtosis local_error --pattern '*'
show local_error
sort score desc
fold kind
filter kind=down_proj layer=0..1
tag *.0.mlp.down_proj
exclude tagged "*.1.self_attn.q_proj"
filter
undo
undo
redo
level float model.layers.2.mlp.down_proj
include model.layers.2.mlp.down_proj
level W8A8 *.2.self_attn.o_proj
tag --off *.0.mlp.down_proj
export $tmp/a.yaml
rank --topk 1
SLIM
exits 0 "a script runs" s --script "$tmp/a.slim"
has "$tmp/out" "=== Layer Analysis Results (local_error method) ===" "and prints results"
cp "$tmp/a.yaml" "$tmp/first.yaml"
has "$tmp/a.yaml" "exclude" "and writes the recipe"
exits 0 "a file with the same bytes counts as written" s --script "$tmp/a.slim"
echo "# a note" >>"$tmp/a.yaml"
exits 74 "an existing file with others stays" s --script "$tmp/a.slim"
has "$tmp/err" "a.slim:23: '$tmp/a.yaml' is there already with other content: add ! to replace it" "the message has file and line"
has "$tmp/a.yaml" "# a note" "and nothing was written"
sed "s|^export .*|& !|" "$tmp/a.slim" >"$tmp/b.slim"
exits 0 "! replaces it" s -x "$tmp/b.slim"
same "$tmp/first.yaml" "$tmp/a.yaml" "with the same bytes"
exits 0 "a script on stdin" sh -c '"$1" --script - <"$2"' sh "$SLIMSCOPE" "$tmp/b.slim"
same "$tmp/first.yaml" "$tmp/a.yaml" "writes the same"
sed 's/$/\r/' "$tmp/b.slim" >"$tmp/crlf.slim"
exits 0 "CRLF lines" s --script "$tmp/crlf.slim"
exits 0 "on a screen without a terminal" s --ui --script "$tmp/b.slim" --size 100x30 --pace 1 --glyphs ascii --no-color --no-mouse --theme default --dump-screen "$tmp/screen"
same "$tmp/first.yaml" "$tmp/a.yaml" "writes the same"
has "$tmp/screen" "down_proj" "and dumps the screen"

# ---- history ----
{ sed '/^export\|^rank/d' "$tmp/a.slim"; echo "export $tmp/h.yaml"; echo "exclude *.0.mlp.*"; echo "export $tmp/h2.yaml"; echo undo
  echo "exclude *.2.mlp.gate_proj"; echo undo; echo "export $tmp/h3.yaml"; echo history; echo "history --save $tmp/h.slim"; } >"$tmp/c.slim"
exits 0 "a session with history" s --script "$tmp/c.slim"
has "$tmp/out" "exclude tagged *.1.self_attn.q_proj" "history lists commands"
has "$tmp/err" "written: $tmp/h.slim" "saving it is told"
has "$tmp/h.slim" "# slimscope" "the saved script has a head"
has "$tmp/h.slim" "fingerprint" "with the model's fingerprint"
if grep -q "gate_proj" "$tmp/h.slim"; then not_ok "an undone edit is left out"; else ok "an undone edit is left out"; fi
is 1 "$(grep -c '^undo' "$tmp/h.slim")" "an undo that an export saw stays"
for f in h h2 h3; do mv "$tmp/$f.yaml" "$tmp/$f.was"; done
mkdir "$tmp/else"
exits 0 "the saved script runs, from elsewhere" sh -c 'cd "$2" && "$1" --script ../h.slim' sh "$(realpath "$SLIMSCOPE")" "$tmp/else"
for f in h h2 h3; do same "$tmp/$f.was" "$tmp/$f.yaml" "replay writes $f.yaml byte for byte"; done
echo "# mine" >>"$tmp/h.slim"
exits 74 "history does not replace a script" s --script "$tmp/c.slim"
has "$tmp/h.slim" "# mine" "which stays as it was"

# ---- a script that writes a model ----
printf "open %s\ncalib '%s'\nset max-samples 3\nexclude *.0.mlp.down_proj\nquantize --save %s/q\nhistory --save %s/q.slim\n" $model "$calib" "$tmp" "$tmp" >"$tmp/d.slim"
exits 0 "a session that writes a model" s --script "$tmp/d.slim"
for i in 1 2; do
    exits 0 "its script runs again" s --script "$tmp/q.slim"
    has "$tmp/out" "$tmp/q holds this model already: whole, nothing written" "the finished model counts as written"
done
mv "$tmp/q" "$tmp/q.was"
exits 0 "and into a new folder" s --script "$tmp/q.slim"
for f in $(ls -A "$tmp/q.was"); do same "$tmp/q.was/$f" "$tmp/q/$f" "it writes $f byte for byte"; done
sed "s/down_proj/up_proj/" "$tmp/q.slim" >"$tmp/q2.slim"
exits 64 "another assignment is refused" s --script "$tmp/q2.slim"
has "$tmp/err" "as ascendv1_saver wrote it: ! replaces it" "and the model stays"
same "$tmp/q.was/quant_model_description.json" "$tmp/q/quant_model_description.json" "as it is"

# ---- the model of a script ----
cp -r $model "$tmp/tuned"
python3 - "$tmp/tuned/model.safetensors" <<'PY'
import sys
b = bytearray(open(sys.argv[1], "rb").read())
for i in range(len(b) // 2, len(b), 50): b[i] ^= 1
open(sys.argv[1], "wb").write(b)
PY
printf 'open %s\nexclude *.0.mlp.down_proj\nexport! %s/bang.yaml\nhistory --save %s/model.slim\n' $model "$tmp" "$tmp" | s --script - 2>/dev/null
has "$tmp/model.slim" "export $tmp/bang.yaml !" "the saved history keeps the !"
is 1 "$(grep -c '^# model .*, fingerprint [0-9a-f]\{16\}$' "$tmp/model.slim")" "and names the model by its fingerprint"
exits 0 "it runs on the model" s --script "$tmp/model.slim"
sed "s|^open [^ ]*|open $tmp/tuned|" "$tmp/model.slim" >"$tmp/other.slim"
exits 65 "not on a fine-tune of it" s --script "$tmp/other.slim"
has "$tmp/err" "the model at '$tmp/tuned' is not the one that this was recorded with" "one line says why"
has "$tmp/err" "--force runs it all the same" "and what to do"
exits 65 "nor on a screen" s --ui --size 80x24 --script "$tmp/other.slim"
has "$tmp/err" "is not the one that this was recorded with" "with the same line"
exits 0 "--force does" s --script "$tmp/other.slim" --force
exits 0 "also on a screen" s --ui --size 80x24 --script "$tmp/other.slim" --force
printf 'open %s/tuned\nreplay %s/noopen.slim\n' "$tmp" "$tmp" >"$tmp/r.slim"
sed '/^open/d' "$tmp/model.slim" >"$tmp/noopen.slim"
exits 65 "a replay is checked too" s --script "$tmp/r.slim"
sed -i 's/^replay/replay --force/' "$tmp/r.slim"
exits 0 "and forced" s --script "$tmp/r.slim"
printf 'open %s\nopen %s/tuned\nexclude *.0.mlp.down_proj\nhistory --save %s/two.slim\n' $model "$tmp" "$tmp" | s --script - 2>/dev/null
is 2 "$(grep -c '^# model ' "$tmp/two.slim")" "a script of two models names both"
exits 0 "and runs on both" s --script "$tmp/two.slim"
exits 64 "nothing to save" sh -c 'echo "history --save $2" | "$1" --script -' sh "$SLIMSCOPE" "$tmp/n"
cat >"$tmp/d.slim" <<SLIM
open $model
exclude *.0.mlp.down_proj
replay 2-2
replay $tmp/e.slim
history
SLIM
echo "exclude *.1.mlp.down_proj" >"$tmp/e.slim"
exits 0 "replay" s --script "$tmp/d.slim"
is 4 "$(grep -c . "$tmp/out")" "replayed commands are in the history once each"
echo "replay $tmp/self.slim" >"$tmp/self.slim"
exits 64 "a script that replays itself" s --script "$tmp/self.slim"
exits 64 "a range outside" sh -c 'echo "replay 3-9" | "$1" --script -' sh "$SLIMSCOPE"

# ---- errors in scripts ----
script_fails() { # CODE LINE TEXT NAME FORMAT ARGS...: the script is what printf makes of FORMAT and ARGS
    code=$1 line=$2 text=$3 name=$4; shift 4
    # shellcheck disable=SC2059
    printf "$@" >"$tmp/bad.slim"
    exits "$code" "$name" s --script "$tmp/bad.slim"
    has "$tmp/err" "$tmp/bad.slim:$line: $text" "$name: file, line, message"
}
script_fails 64 3 "unknown command 'exclde': did you mean 'exclude'?" "an unknown verb" 'open %s\n\nexclde x\nundo\n' "$model"
script_fails 64 1 "no model is open" "no model" 'undo\n'
script_fails 64 2 "nothing to undo" "nothing to undo" 'open %s\nundo\n' "$model"
script_fails 65 2 "'*nothing*' selects no layer" "no hit" 'open %s\nexclude *nothing*\n' "$model"
script_fails 65 1 "" "no model there" 'open %s\nanalyze kurtosis\n' "$tmp"
script_fails 64 1 "the ' opened at column 9 is not closed" "an open quote" "exclude 'a\n"
script_fails 64 1 "'theme' needs the workbench: run the script with --ui" "a screen command" 'theme light\n'
script_fails 64 1 "'bind' needs the workbench" "bind" 'bind x undo\n'
script_fails 64 1 "'dump' needs the workbench" "dump" 'dump x\n'
script_fails 64 1 "'screen' needs the workbench" "screen" 'screen 1\n'
script_fails 64 1 "no setting 'nothing'" "a wrong setting" 'set nothing=1\n'
script_fails 64 1 "'threads' is no setting: write set KEY=VALUE" "a setting without value" 'set threads\n'
script_fails 64 2 "'kinds' is no way to fold: use none, block, kind, group, experts; nearest: kind" "a wrong fold" 'open %s\nfold kinds\n' "$model"
script_fails 64 2 "'colour' is no sort key" "a wrong key" 'open %s\nsort colour\n' "$model"
script_fails 64 2 "'up' is no direction" "a wrong direction" 'open %s\nsort score up\n' "$model"
script_fails 64 2 "'W4' is no level of the open recipe: it has float, W8A8" "a wrong level" 'open %s\nlevel W4 *\n' "$model"
script_fails 64 2 "std has not been computed" "rank before analyze" 'open %s\nrank std\n' "$model"
script_fails 64 1 "'undo' is no long command" "async of a short command" 'async undo\n'
script_fails 64 1 "'undo' takes no !" "! where none belongs" 'undo!\n'
script_fails 64 1 "'tokenize' is a form of the program" "a program's form" 'tokenize --text a\n'
script_fails 64 2 "" "one-shot options inside" 'open %s\nmeasure --recipe x\n' "$model"
script_fails 64 1 "no job is running" "nothing to cancel" 'cancel --now\n'
script_fails 64 3 "'export' needs more" "export without a file" 'open %s\nexport --preview %s/p.yaml\nexport\n' "$model" "$tmp"
if [ -e "$tmp/p.yaml" ]; then not_ok "preview writes nothing"; else ok "preview writes nothing"; fi
script_fails 64 2 "the line holds a NUL byte" "a NUL" 'open %s\n\000x\n' "$model"
exits 74 "no script" s --script "$tmp/none.slim"
exits 64 "a folder" s --script "$tmp"
exits 64 "screen options without a screen" s --script "$tmp/e.slim" --pace 5
exits 64 "ui without a terminal" s --ui --script "$tmp/e.slim"
has "$tmp/err" "the workbench needs a terminal and standard input is none" "the hint"
exits 64 "slimscope alone without a terminal" s
exits 64 "workbench without a terminal" s workbench $model
exits 64 "a wrong size" s --size 80 --script "$tmp/e.slim"
exits 64 "size 0" s --size 0x0
exits 64 "colours" s --size 80x24 --color never --no-color
exits 64 "mouse" s --size 80x24 --mouse --no-mouse

# ---- async, quit, shell, settings, sessions ----
printf 'open %s\ncalib %s\nasync analyze std\nwait\nrank std\nquit\nnot reached\n' "$model" "$calib" >"$tmp/f.slim"
exits 0 "async, wait, quit" s --script "$tmp/f.slim"
has "$tmp/out" "(std method)" "the rows are there after wait"
printf 'open %s\ncalib %s\nasync analyze std\ncancel\nwait\n' "$model" "$calib" >"$tmp/g.slim"
s --script "$tmp/g.slim" >/dev/null 2>"$tmp/err"; rc=$?
case $rc in 0|64|130) ok "cancel of a short job ends well" ;; *) not_ok "cancel of a short job ends well"; cat "$tmp/err" ;; esac
mkdir -p "$XDG_CONFIG_HOME/slimscope"
printf '# mine\nset threads=1\ntheme light\nbind x undo\n' >"$XDG_CONFIG_HOME/slimscope/rc"
exits 0 "the shell reads settings" sh -c 'printf "open %s\nhistory\n" "$2" | "$1" shell' sh "$SLIMSCOPE" $model
has "$tmp/out" "set threads=1" "and they are part of the history"
printf 'set threads=1\nopen x\n' >"$XDG_CONFIG_HOME/slimscope/rc"
exits 64 "a wrong verb in the settings" sh -c 'echo history | "$1" shell' sh "$SLIMSCOPE"
has "$tmp/err" "rc:2: 'open' has no place here" "is told"
exits 0 "scripts do not read settings" s --script "$tmp/e.slim" $model
rm "$XDG_CONFIG_HOME/slimscope/rc"
exits 0 "the shell takes options" sh -c 'printf "exclude *.0.mlp.down_proj\nanalyze std\n" | "$1" shell "$2" --calib_dataset "$3" --eval "$3" --ctx 32 --recipe "$4" --seed 1 --progress never' \
    sh "$SLIMSCOPE" $model "$calib" tests/golden/config/broken/00-good-base.yaml
exits 65 "an error ends a shell without a terminal" sh -c 'printf "exclude nothing\nquit\n" | "$1" shell "$2"' sh "$SLIMSCOPE" $model
exits 0 "sessions are listed" s resume --list
has "$tmp/out" "$model" "with their model"
exits 64 "list stands alone" s resume --list x
exits 65 "no such session" s resume nosuch --headless
exits 64 "resume without a terminal" s resume
has "$tmp/err" "--headless" "names the way"
exits 0 "read-only" sh -c 'printf "open %s\n" "$2" | "$1" shell --read-only' sh "$SLIMSCOPE" $model
exits 64 "read-only writes no recipe" sh -c 'printf "open %s\nexport %s/ro.yaml\n" "$2" "$3" | "$1" shell --read-only' sh "$SLIMSCOPE" $model "$tmp"
exits 0 "eval and recipe as commands" sh -c 'printf "open %s\neval %s\nrecipe default\nrecipe %s\n" "$2" "$3" "$4" | "$1" --script -' sh "$SLIMSCOPE" $model "$calib" tests/golden/config/broken/00-good-base.yaml
printf 'open %s\nexport %s/b.yaml\nexport %s/b.yaml!\nexport! %s/b.yaml\n' $model "$tmp" "$tmp" "$tmp" >"$tmp/h.slim"
exits 0 "the ! may stand right behind a file or the verb" s --script "$tmp/h.slim"
is "b.yaml" "$(cd "$tmp" && ls b.yaml*)" "and names no other file"
finish
