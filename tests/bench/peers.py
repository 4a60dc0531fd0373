#!/usr/bin/env python3
"""make bench-peers: the same model and texts by other programs, beside slimscope's arithmetics. usage: peers.py PROGRAM BENCH-FOLDER
$PYTHON: a python that may have torch and transformers; $GGUF: the same model for llama.cpp (convert_hf_to_gguf.py makes it),
run where llama-imatrix is in PATH over $TEXT (default: prose of lab_calib)."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import lab

PROGRAM, BENCH = sys.argv[1:3]
page = lab.Page()
absent = []


def row(name, what, cpu, wall, tokens, rss, flops, best):
    share = flops / cpu / 1e9 / best if best and flops else None
    page.line("  %-22s %-34s %8.2f %8s %9s %8s %7s" % (name, what, cpu, "%.2f" % wall if wall else "-", "%.0f" % (tokens / wall) if wall else "-",
                                                     "%.0f" % rss if rss else "-", "%.2f" % share if share else "-"),
              program=name, what=what, cpu=cpu, wall=wall, tokens=tokens, rss=rss, share=share)


def hugging_face(folder, calib, work, best):
    python = os.environ.get("PYTHON") or "python3"
    if subprocess.run([python, "-c", "import torch, transformers"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        absent.append("Hugging Face: '%s' has no torch and transformers (PYTHON=...)" % python)
        return
    env = dict(os.environ, OMP_WAIT_POLICY="passive", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    for dtype in ("bf16", "fp32"):
        r = lab.timed([python, "-W", "ignore", "tests/bench/hf_forward.py", folder, calib, dtype], env)
        d = json.loads(r.out.splitlines()[-1])
        row("Hugging Face %s" % dtype, "forward, no statistics, no head", d["cpu"], d["wall"], d["tokens"], d["rss"], work * d["tokens"], best)
    print("    (%s, %d threads)" % (d["version"], d["threads"]))


def words(path):
    with open("lab_calib/eval.jsonl") as f:
        prose = "\n".join(next(v for v in json.loads(line).values() if isinstance(v, str)) for line in f)
    with open(path, "w") as f:
        f.write(prose)
    return path


def llama_cpp(folder, work, best):
    gguf, program = os.environ.get("GGUF"), shutil.which("llama-imatrix")
    if not program or not gguf:
        absent.append("llama.cpp: " + ("no llama-imatrix in PATH" if not program else "give GGUF=FILE, the model's gguf with a tokenizer"))
        return
    with tempfile.TemporaryDirectory(dir=BENCH) as out:
        text = os.environ.get("TEXT") or words(os.path.join(out, "text"))
        r = lab.timed([program, "-m", gguf, "-f", text, "-o", os.path.join(out, "imatrix"), "-t", str(lab.CORES), "-c", "512", "-b", "512",
                       "-ub", "512", "--chunks", "5"])
        tokens = 512 * max([int(n) for n in re.findall(r"over (\d+) chunks", r.err + r.out)] or [5])
    row("llama-imatrix", os.path.basename(gguf), r.cpu, r.wall, tokens, r.rss, work * tokens, best)


def main():
    folder = lab.dense(BENCH, 7 if lab.QUICK else 28)
    calib, work = os.path.join(folder, "tokens.jsonl"), lab.linear_work(folder)
    lab.read_once(folder)
    _, rows = lab.kernels(BENCH)
    best = max(r["gflops"] for r in rows if r["kind"] != "factor")
    tokens = lab.tokens_of(calib)
    page.line("%s, %d tokens in 16 texts; share: of the best product of this machine, %.0f GFLOP/s a core; load %.1f of %d cores"
              % (os.path.basename(folder), tokens, best, os.getloadavg()[0], lab.CORES), best=best)
    page.line("  %-22s %-34s %8s %8s %9s %8s %7s" % ("program", "what", "CPU-s", "s", "tokens/s", "peak MB", "share"))
    row("products alone", "of the linears, computed", work * tokens / best / 1e9, None, tokens, None, work * tokens, best)
    with tempfile.TemporaryDirectory() as state:
        env = lab.environment(state)
        for mode in (m for m in ("fast", "model", "fp32", "exact") if m in lab.arithmetics(PROGRAM)):
            if mode == "exact" and lab.QUICK:
                continue
            a = lab.analyze(PROGRAM, env, folder, mode=mode)
            row("slimscope %s" % mode, "kurtosis of every linear", a.cpu, a.wall, a.tokens, a.ran.rss, a.flops, best)
    hugging_face(folder, calib, work, best)
    llama_cpp(folder, work, best)
    for why in absent:
        print("left out, %s" % why)


main()
