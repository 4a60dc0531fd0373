#!/bin/sh
# ^C keeps finished rows, a killed session resumes, the shell's prompt edits, completes and survives ^C.
. tests/tap.sh
i=0
while [ $i -lt 16 ]; do cat tests/golden/analysis/_models/calib5.jsonl; i=$((i + 1)); done >"$tmp/big.jsonl"
cat >"$tmp/lib.py" <<'PY'
import json, os, signal, subprocess, sys
exe, tmp = os.path.realpath(os.environ["SLIMSCOPE"]), os.environ["TMP_DIR"]
big, model = tmp + "/big.jsonl", "lab_models/demo"
def start(*args, **kw):
    return subprocess.Popen([exe, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)
def until(p, done):
    """Reads progress lines until `done` layers are finished; all of them so far."""
    seen = []
    for line in p.stderr:
        if line.startswith("{"):
            seen.append(json.loads(line))
            if seen[-1]["done"] >= done: return seen
    sys.exit("ended before layer %d: %s" % (done, seen[-3:]))
PY
py() { timeout 200 env TMP_DIR=$tmp SLIMSCOPE=$SLIMSCOPE PYTHONPATH="$tmp" python3 "$@"; }

cat >"$tmp/int.py" <<'PY'
from lib import *
p = start("analyze", "--model_path", model, "--calib_dataset", big, "--threads", "1", "--progress", "json", "--format", "json")
until(p, 2)
p.send_signal(signal.SIGINT)
out, err = p.communicate(timeout=120)
rows = json.loads(out)["layers"]
print(p.returncode, 14 <= len(rows) < 56, all(r["score"] is not None for r in rows), "finished rows are kept" in err)
PY
is "130 True True True" "$(py "$tmp/int.py" 2>&1)" "^C keeps finished rows and exits 130"

cat >"$tmp/text.py" <<'PY'
from lib import *
p = start("analyze", "--model_path", model, "--calib_dataset", big, "--threads", "1", "--progress", "json")
until(p, 2)
p.send_signal(signal.SIGINT)
out, err = p.communicate(timeout=120)
last = out.splitlines()[-1]
print(p.returncode, "COMPLETE" in out, last.startswith("===========ANALYSIS STOPPED: ") and last.endswith(" of 56==========="))
PY
is "130 False True" "$(py "$tmp/text.py" 2>&1)" "and the result says that it is not whole"

cat >"$tmp/two.py" <<'PY'
from lib import *
p = start("measure", "--model_path", model, "--calib_dataset", big, "--eval", big, "--threads", "1", "--progress", "json")
until(p, 1)
p.send_signal(signal.SIGINT)
for line in p.stderr:
    if "stopping" in line: break
p.send_signal(signal.SIGINT)
out, err = p.communicate(timeout=120)
print(p.returncode, repr(out))
PY
is "130 ''" "$(py "$tmp/two.py" 2>&1)" "^C twice leaves a measurement without a result"

# A split pattern that is quadratic in this text: minutes, if nobody listened.
cat >"$tmp/slow.py" <<'PY'
from lib import *
import shutil, time
folder = tmp + "/slow"
shutil.copytree(model, folder)
path = folder + "/tokenizer.json"
with open(path) as f: t = json.load(f)
t["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "a*b|a"}, "behavior": "Isolated", "invert": False}
with open(path, "w") as f: json.dump(t, f)
text = "a" * 10 ** 6 + "cb"
with open(tmp + "/slow.json", "w") as f: json.dump([text], f)
with open(tmp + "/slow.txt", "w") as f: f.write(text)
got = []
for args in (["analyze", "--model_path", folder, "--calib_dataset", tmp + "/slow.json"], ["tokenize", "--model_path", folder, "--file", tmp + "/slow.txt"]):
    p = start(*args)
    time.sleep(1)
    p.send_signal(signal.SIGINT)
    if args[0] == "analyze":
        for line in p.stderr:
            if "stopping" in line: break
    p.communicate(timeout=60)
    got.append(p.returncode)
print(*got)
PY
is "130 130" "$(py "$tmp/slow.py" 2>&1)" "^C stops the tokenizer in the middle of a text"

cat >"$tmp/kill.py" <<'PY'
from lib import *
p = start("shell", model, "--calib_dataset", big, "--threads", "1", "--progress", "json", stdin=subprocess.PIPE)
p.stdin.write("exclude *.0.mlp.down_proj\nanalyze kurtosis\n"); p.stdin.flush()
done = until(p, 3)[-1]["done"]
p.kill(); p.wait()
r = start("resume", "--headless", "--progress", "json")
out, err = r.communicate(timeout=120)
lines = [json.loads(l) for l in err.splitlines() if l.startswith("{")]
fresh = start("analyze", "kurtosis", "--model_path", model, "--calib_dataset", big, "--threads", "1").communicate()[0]
print(r.returncode, min(l["done"] for l in lines if l["phase"] != "") >= done - 1, out == fresh)
PY
is "0 True True" "$(py "$tmp/kill.py" 2>&1)" "kill -9, then resume: at most one layer again, the same ranking"
exits 0 "the session is listed" "$SLIMSCOPE" resume --list
is 1 "$(grep -c lab_models/demo "$tmp/out")" "once"

cat >"$tmp/prompt.py" <<'PY'
from lib import *
import pty, select, time
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execv(exe, [exe, "shell", model])
text = ""
def expect(what):
    global text
    end = time.time() + 60
    while what not in text:
        if time.time() > end or not select.select([fd], [], [], 60)[0]: sys.exit("no %r in %r" % (what, text[-400:]))
        try: text += os.read(fd, 4096).decode(errors="replace")
        except OSError: sys.exit("ended before %r: %r" % (what, text[-400:]))
    text = text[text.index(what) + len(what):]
def send(s): os.write(fd, s.encode())
expect("slimscope> ")
send("exc\tmodel.layers.0.mlp.do\t\n"); expect("1 linear sent to float"); expect("slimscope> ")
send("und\x03"); expect("slimscope> ")
send("\x03"); expect("'quit' or ^D leaves"); expect("slimscope> ")
send("undo it\n"); expect("'undo' takes no 'it'"); expect("slimscope> ")
send("undo\n"); expect("undone: "); expect("slimscope> ")
send("quit\n")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PY
is 0 "$(py "$tmp/prompt.py" 2>&1)" "the prompt completes, survives ^C and errors, and quits"
has "$XDG_STATE_HOME/slimscope/history" "undo" "typed lines are kept"
finish
