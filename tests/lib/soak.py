#!/usr/bin/env python3
"""One process through many rounds of work: what it holds must not grow with them. usage: soak.py PROGRAM FOLDER ROUNDS

What a round may leave: its commands in the history (0.4 kB), and until there are 500 that have ended its jobs in their list (1.2 kB), until
there are 2,000 its lines in the log (1 kB). The rest of what is measured is what malloc has not joined again."""
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
QUANTIZE_EVERY = 5
QUANTIZE = "quantize --save %s/q!\n"


def look(pid):
    with open("/proc/%d/status" % pid) as f:
        text = f.read()
    field = {line.split(":")[0]: line.split()[1] for line in text.splitlines() if line.count(":") == 1 and len(line.split()) > 1}
    return int(field["VmRSS"]), int(field["Threads"]), len(os.listdir("/proc/%d/fd" % pid))


p = subprocess.Popen([PROGRAM, "shell"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                     env=dict(os.environ, XDG_STATE_HOME=FOLDER + "/soak", MALLOC_ARENA_MAX="1"))
seen = []
for i in range(ROUNDS):
    more = QUANTIZE % FOLDER if i % QUANTIZE_EVERY == 0 else ""
    p.stdin.write(ROUND % {"model": MODELS[i % 2], "folder": FOLDER, "more": more})
    p.stdin.flush()
    ranked = False
    for line in p.stdout:
        ranked = ranked or line == "top 1:\n"
        if ranked and line.startswith("===========ANALYSIS "):
            break
    if p.poll() is not None:
        sys.exit("it ended in round %d" % i)
    seen.append(look(p.pid))
p.stdin.write("quit\n")
p.stdin.flush()
p.stdout.read()
if p.wait() != 0:
    sys.exit("exit %d" % p.returncode)
cycle = len(MODELS) * QUANTIZE_EVERY  # after so many rounds the same is done again, with a model of the same size open
half = (ROUNDS // cycle) // 2 * cycle


def least(begin, end):
    """What is held at the least, as the mean over the rounds of a cycle: more is what malloc has not given back yet."""
    return sum(min(s[0] for s in seen[begin + k:end:cycle]) for k in range(cycle)) / cycle


growth = (least(half, ROUNDS) - least(cycle, half)) / (ROUNDS - half)
most = [[max(s[k] for s in part) for k in (1, 2)] for part in (seen[1:ROUNDS // 2], seen[ROUNDS // 2:])]
most[0][1] += 1  # what is on its way to the disk
print("threads %s, descriptors %s, growth %s" % (
    "constant" if most[1][0] <= most[0][0] else "%d to %d" % (most[0][0], most[1][0]),
    "constant" if most[1][1] <= most[0][1] else "%d to %d" % (most[0][1], most[1][1]),
    "small" if growth < 24 else "%.1f kB a round" % growth))
print("# %.1f kB a round, %d kB at the end" % (growth, seen[-1][0]), file=sys.stderr)
