#!/usr/bin/env python3
"""One process through many rounds of work: what it holds must not grow with them. usage: soak.py PROGRAM FOLDER ROUNDS"""
import os
import subprocess
import sys

PROGRAM, FOLDER, ROUNDS = sys.argv[1], sys.argv[2], int(sys.argv[3])
MODELS = ["tests/golden/analysis/_models/llama-fp32", "lab_models/demo"]
ROUND = """open %(model)s
calib tests/golden/analysis/_models/calib5.jsonl
set max-samples=1
set seq-len=16
set eval-tokens=64
analyze kurtosis local_error
exclude *.0.mlp.down_proj
tag *q_proj
level float tagged
undo
measure
undo
redo
filter attn
sort name
filter
export %(folder)s/r.yaml!
%(more)srank kurtosis --topk 1
"""
QUANTIZE = "quantize --save %s/q!\n"


def look(pid):
    with open("/proc/%d/status" % pid) as f:
        text = f.read()
    field = {line.split(":")[0]: line.split()[1] for line in text.splitlines() if line.count(":") == 1 and len(line.split()) > 1}
    return int(field["VmRSS"]), int(field["Threads"]), len(os.listdir("/proc/%d/fd" % pid))


p = subprocess.Popen([PROGRAM, "shell"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                     env=dict(os.environ, XDG_STATE_HOME=FOLDER + "/soak"))
seen = []
for i in range(ROUNDS):
    more = QUANTIZE % FOLDER if i % 5 == 0 else ""
    p.stdin.write(ROUND % {"model": MODELS[i % 2], "folder": FOLDER, "more": more})
    p.stdin.flush()
    last = False
    for line in p.stdout:
        last = last or line == "top 1:\n"
        if last and line.startswith("===========ANALYSIS "):
            break
    if p.poll() is not None:
        sys.exit("it ended in round %d" % i)
    seen.append(look(p.pid))
p.stdin.write("quit\n")
p.stdin.flush()
p.stdout.read()
if p.wait() != 0:
    sys.exit("exit %d" % p.returncode)
middle = ROUNDS // 2 - (ROUNDS // 2 - (ROUNDS - 1)) % len(MODELS)  # of the same model as the last
half, last = seen[middle], seen[-1]
growth = (last[0] - half[0]) / (ROUNDS - 1 - middle)
most = [[max(s[k] for s in part) for k in (1, 2)] for part in (seen[1:ROUNDS // 2], seen[ROUNDS // 2:])]  # one more while a job begins
print("threads %s, descriptors %s, growth %s" % (
    "constant" if most[1][0] <= most[0][0] else "%d to %d" % (most[0][0], most[1][0]),
    "constant" if most[1][1] <= most[0][1] else "%d to %d" % (most[0][1], most[1][1]),
    "small" if growth < 48 else "%.1f kB a round" % growth))
print("# %.1f kB a round, %d kB at the end" % (growth, last[0]), file=sys.stderr)
