#!/bin/sh
# Sessions: gone on with by themselves, listed, checked, deleted; not kept where they can't be.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
root=$XDG_STATE_HOME/slimscope/sessions
export root
cat >"$tmp/kill.py" <<'PY'
import json, os, subprocess, sys
exe, model, threads = os.path.realpath(os.environ["SLIMSCOPE"]), sys.argv[1], "1"
p = subprocess.Popen([exe, "shell", model, "--threads", threads, "--progress", "json"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
p.stdin.write("analyze kurtosis local_error\n"); p.stdin.flush()
for line in p.stderr:
    if line.startswith("{") and json.loads(line)["done"] >= 3: break
p.kill(); p.wait()
PY
killed() { SLIMSCOPE=$SLIMSCOPE timeout 100 python3 "$tmp/kill.py" lab_models/demo; id=$(ls "$root"); }

killed
exits 0 "resume goes on by itself" s resume --size 80x24 --dump-screen "$tmp/screen"
has "$tmp/screen" "56/56" "to the end"
exits 0 "the session is listed" s resume --list
has "$tmp/out" "$id" "by its name"
has "$tmp/out" "56 of 56 rows" "with its progress"
if grep -q 'KiB\|MiB' "$tmp/out"; then ok "and its size"; else not_ok "and its size"; fi
is 0 "$(ls "$root/$id/streams" | wc -l)" "a finished analysis leaves no streams"
exits 0 "it is whole" s check "$id"
has "$tmp/out" "session: 0 bad" "says check"
exits 0 "it is deleted" s resume --delete "$id"
has "$tmp/err" "1 session deleted" "which is told"
is 0 "$(ls "$root" | wc -l)" "and gone"

killed
exits 0 "--no-run" s resume --no-run --size 80x24 --dump-screen "$tmp/screen"
if grep -q "stopped at layer [2-7] of 8; r goes on" "$tmp/screen"; then ok "says where it stands"; else not_ok "says where it stands"; tail -n 3 "$tmp/screen"; fi
exits 0 "a new session of the model" s --size 80x24 --dump-screen "$tmp/screen" lab_models/demo
has "$tmp/screen" "of 56 rows: slimscope resume" "says that there is one"
is 1 "$(ls "$root" | wc -l)" "and is not kept when nothing was done in it"
rm "$root/$id"/streams/*
exits 65 "a stream that is missing" s check "$root/$id"
has "$tmp/out" "is missing: it can't go on from there" "is told by check"

# ---- the log ----
printf 'open lab_models/demo\nexclude *.0.mlp.down_proj\nexclude no.such\n' | s shell >/dev/null 2>&1
id=$(ls -t "$root" | head -n 1)
printf 'async analyze kurtosis\npause 1\nasync analyze local_error --pattern=*.0.*\nasync measure\npriority 3 up\nresume 1\nwait\nlog --kind job\nlog --save %s\ndiscard ended\n' "$tmp/log.txt" >"$tmp/in"
exits 0 "jobs are paused, moved, gone on with" s --script "$tmp/in" lab_models/demo
has "$tmp/out" "#1: kurtosis is paused" "the log lists them"
has "$tmp/out" "#1: kurtosis done in" "with their ends"
if grep -q "  note  " "$tmp/out"; then not_ok "and no other kind"; else ok "and no other kind"; fi
has "$tmp/log.txt" "#1: kurtosis starts" "log --save writes it"
printf 'exclude *.0.mlp.down_proj\nlog nothing-like-it\n' >"$tmp/in"
exits 65 "what the log lacks" s --script "$tmp/in" lab_models/demo
has "$tmp/err" "no line of" "is said"
exits 0 "a workbench" s resume "$id" --size 80x24 --dump-screen "$tmp/screen"
if grep -q "session $id" "$root/$id/log"; then ok "the log is kept in a file"; else not_ok "the log is kept in a file"; fi

# ---- names, files, reports ----
printf 'session name mine\nexclude *.1.mlp.down_proj\nhistory 1.mlp\nsession save %s\nsession report %s\nsession\n' "$tmp/s.session" "$tmp/r.slim" >"$tmp/in"
exits 0 "a session has a name" sh -c '"$SLIMSCOPE" shell lab_models/demo <"$1"' - "$tmp/in"
has "$tmp/out" "named mine" "which it tells"
has "$tmp/out" "exclude *.1.mlp.down_proj" "history TEXT finds a command"
s session list >"$tmp/list"
has "$tmp/list" "mine" "the list has it"
has "$tmp/list" "1 not exported" "and what was not exported"
exits 0 "a session is opened by its name" s resume mine --size 80x24 --dump-screen "$tmp/screen"
has "$tmp/screen" "float 1/56" "with its edit"
exits 0 "and from a file" s resume --from "$tmp/s.session" --size 80x24 --dump-screen "$tmp/screen"
has "$tmp/screen" "float 1/56" "with the same edit"
has "$tmp/r.slim" "# fingerprint " "a report names the model"
has "$tmp/r.slim" "---- the end of the log ----" "has the log"
has "$tmp/r.slim" "# model.layers.7.mlp.down_proj " "and every linear"
exits 0 "a report is a script" s --script "$tmp/r.slim"
exits 0 "and is made of one that is not open" s session report "$tmp/r2.slim" mine
has "$tmp/r2.slim" "exclude *.1.mlp.down_proj" "with its commands"
exits 0 "--session goes on with it" s --session mine --size 80x24 --dump-screen "$tmp/screen"
has "$tmp/screen" "float 1/56" "with its edit"
exits 64 "but not on another model" s tests/golden/analysis/_models/llama-fp32 --session mine --size 80x24 --dump-screen "$tmp/screen"
has "$tmp/err" "lab_models/demo': leave the model out" "and says whose it is"
exits 64 "nor without a model when it is not there" s --session other --size 80x24 --dump-screen "$tmp/screen"
exits 0 "else it begins one" s lab_models/demo --session other --size 80x24 --dump-screen "$tmp/screen"
s session list >"$tmp/list"
has "$tmp/list" "  other  " "of this name"
cat >"$tmp/open.py" <<'PY'
import os, re, sys
sys.path.insert(0, "tests/lib")
from pty_term import Program
p = Program([os.environ["SLIMSCOPE"], "lab_models/demo", "--session", "other", "--glyphs", "ascii"],
            dict(os.environ, TERM="xterm-256color", LC_ALL="C.UTF-8"), 30, 120, limit=60)
p.see("session other: ")
p.keys("3o")
p.keys("other\r")
p.see("session 'other' is the one that is open")
p.keys("omine\r")
p.see("session mine: ")
p.see("float 1/56")
p.keys(":session open nowhere\r")
p.see("no session 'nowhere'")
p.keys(":save third\r")
p.see("this session is third")
p.keys(":save %s\r" % sys.argv[1])
p.see("written: ")
p.keys(":load other\r")
p.see(re.compile(r"session other: .*(?s:.)*float 0/56|float 0/56(?s:.)*session other: "))
p.keys(":load %s\r" % sys.argv[1])
p.see(re.compile(r"session third: .*(?s:.)*float 1/56|float 1/56(?s:.)*session third: "))
p.keys(":quit\r")
print(p.finish())
PY
is "exit 0" "$(PYTHONDONTWRITEBYTECODE=1 python3 "$tmp/open.py" "$tmp/third.session" 2>&1 | tail -n 1)" "o on Jobs goes on with another session in the workbench, load with one or with a file"
exits 64 "elsewhere 'session open'" s session open mine
has "$tmp/err" "slimscope resume mine" "tells the command"
# save and load, in the shell
printf 'exclude *.2.mlp.down_proj\nsave\nsave fourth\nsave %s\nload mine\nhistory\nload %s\nsession\nhistory\n' "$tmp/four.session" "$tmp/four.session" >"$tmp/in"
exits 0 "save and load" sh -c '"$SLIMSCOPE" shell lab_models/demo <"$1"' - "$tmp/in"
has "$tmp/err" "kept as you go" "save alone says that it is kept"
has "$tmp/err" "this session is fourth" "save NAME names it"
has "$tmp/err" "written: $tmp/four.session; load $tmp/four.session opens it again" "save FILE writes it"
is "2" "$(grep -c 'exclude' "$tmp/out")" "load goes on with a session, and with a file"
is "exclude *.1.mlp.down_proj exclude *.2.mlp.down_proj " "$(sed -n 's/^ *2  \(exclude.*\)/\1/p' "$tmp/out" | tr '\n' ' ')" "each with its own history"
has "$tmp/out" ", named fourth" "and the file with its name"
if grep -q 'load' "$tmp/out"; then not_ok "no history holds it"; else ok "no history holds it"; fi
printf 'save %s\n' "$tmp/four.session" >"$tmp/in"
exits 74 "over a file that is there" sh -c '"$SLIMSCOPE" shell lab_models/demo <"$1"' - "$tmp/in"
has "$tmp/err" "add ! to replace it" "only with !"
for bad in "nothing-like-it:65:no session 'nothing-like-it'" "./README.md:65:is no saved session: 'save FILE' writes one" "scores:64:load scores FILE" "mine --as x:64:load SESSION alone"; do
    word=${bad%%:*} rest=${bad#*:}
    echo "load $word" >"$tmp/in"
    exits "${rest%%:*}" "load $word" sh -c '"$SLIMSCOPE" shell lab_models/demo <"$1"' - "$tmp/in"
    has "$tmp/err" "${rest#*:}" "is told in a line"
done
echo "load mine" >"$tmp/in"
exits 64 "in a script" s --script "$tmp/in" lab_models/demo
has "$tmp/err" "elsewhere slimscope resume mine" "the command is told"
exits 0 "session rm" s session rm mine other
s session list >"$tmp/list"

# ---- the model ----
cp -r lab_models/demo "$tmp/m"
echo "exclude *.0.mlp.down_proj" | s shell "$tmp/m" 2>/dev/null
id=$(ls -t "$root" | head -n 1)
python3 - "$tmp/m/model.safetensors" <<'PY'
import sys
b = bytearray(open(sys.argv[1], "rb").read())
for i in range(len(b) // 2, len(b), 50): b[i] ^= 1
open(sys.argv[1], "wb").write(b)
PY
exits 65 "a fine-tune is not the session's model" s resume "$id" --size 80x24
has "$tmp/err" "has changed since: its fingerprint is" "one line says so"
exits 0 "--force goes on" s resume "$id" --force --size 80x24 --dump-screen "$tmp/screen"
has "$tmp/screen" "float 1/56" "with what was decided"

# ---- a report where the model is gone ----
printf 'set max-samples=1 seq-len=16 eval-tokens=32\nanalyze kurtosis\nexclude *.1.mlp.down_proj\nmeasure\nsave lost\nsave %s\n' "$tmp/lost.session" >"$tmp/in"
cp -r lab_models/demo "$tmp/moved"
exits 0 "a session" sh -c '"$SLIMSCOPE" shell "$2" <"$1"' - "$tmp/in" "$tmp/moved"
exits 0 "a file is reported" s session report "$tmp/whole.slim" "$tmp/lost.session"
has "$tmp/whole.slim" "# model.layers.7.mlp.down_proj " "with every linear while the model is there"
mv "$tmp/moved" "$tmp/elsewhere"
rm -f "$tmp/in"
before=$(ls "$root" | wc -l)
for from in lost "$tmp/lost.session"; do
    rm -f "$tmp/lost.slim"
    exits 0 "the model is gone" s session report "$tmp/lost.slim" "$from"
    has "$tmp/err" "the report has what its journal holds: session" "one line says so"
    is 1 "$(grep -c '^# MISSING: the model' "$tmp/lost.slim")" "one line of the report says what is missing"
    has "$tmp/lost.slim" "config.json': No such file" "and why"
    is "measure" "$(grep -v '^#' "$tmp/lost.slim" | tail -n 1)" "the commands are there"
    has "$tmp/lost.slim" '"kl_mean":' "the measurement"
    is 8 "$(grep -c '^# {"t":"rows"' "$tmp/lost.slim")" "what was computed of each layer"
    has "$tmp/lost.slim" '"kurtosis":' "with its figures"
    is 0 "$(awk 'length($0) > 12000' "$tmp/lost.slim" | wc -l)" "and without histograms"
done
is "$before" "$(ls "$root" | wc -l)" "no session is left by it"
exits 65 "no such session" s session report "$tmp/none.slim" nothing-like-it
has "$tmp/err" "no session 'nothing-like-it'" "is said"

# ---- what is not kept ----
mkdir "$tmp/file"; : >"$tmp/file/slimscope"
exits 0 "a state folder that can't be" env XDG_STATE_HOME="$tmp/file" "$SLIMSCOPE" --size 80x24 --dump-screen "$tmp/screen" lab_models/demo
has "$tmp/screen" "not saved" "is said in the header"
has "$tmp/screen" "this session is not saved: " "and on the line of messages"
finish
