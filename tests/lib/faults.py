#!/usr/bin/env python3
"""Fails allocations of slimscope one by one and looks at how it ends. TAP on stdout: a line for each case, with the
positions that ended badly and the calls that led there.

usage: faults.py [--step K] [--offset N] [--budget S] [--only CASE] [--at N] PROGRAM SHIM
  --step K     tries every K-th position only (default 1); the first position tried moves with the case
  --budget S   chooses a step for each case so that all together take about S seconds of one core
  --at N       tries position N of the one case and keeps its output on the terminal

A run may end in two ways: with exit code 1 and one line "slimscope: ..." about memory, or with exit code 0 and what it
prints and writes the same to the byte as a run without a failure."""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

STATIC = "lab_practice/default/default-w8a8-static.yaml"
GPTQ = "tests/golden/formats/w8a16_pergroup_gptq/config.yaml"
MODEL = "lab_models/demo"
DATA = ["--threads", "1", "--seq-len", "16", "--max-samples", "1"]
IDS = '{"input_ids":[11,56,30,21,14,27,8,16,9,3]}\n'
ATTENTION = """apiversion: modelslim_v1
spec:
  dataset: ids.jsonl
  process:
  - {type: fa3_quant, details: {fa_q: {dtype: int8, scope: per_head, symmetric: true, method: minmax}}}
  - {type: dynamic_cache, qconfig: {dtype: int8, scope: per_channel, symmetric: true, method: minmax}, include: ['*.0.*']}
  save: [{type: ascendv1_saver}]
"""
TEXT = '{"inputs_pretokenized": "A short text, to be measured."}\n'
SCRIPT = """calib {tmp}/ids.jsonl
eval {tmp}/text.jsonl
recipe {static}
set threads=1 seq-len=16
set max-samples 1
analyze kurtosis local_error --pattern '*'
show local_error
sort score desc
fold kind
filter kind=down_proj layer=0..1
tag *.0.mlp.down_proj
exclude tagged "*.1.self_attn.q_proj"
filter
undo
redo
level float model.layers.2.mlp.down_proj
include model.layers.2.mlp.down_proj
measure
export {work}/a.yaml
rank --topk 5
quantize --save {work}/model
history --save {work}/h.slim
"""
RULES = """exclude *.1.mlp.down_proj *.2.mlp.gate_proj
include model.layers.2.mlp.up_proj
level W8A8 *.3.mlp.down_proj
rule off *.1.mlp.down_proj
rule edit *.1.mlp.down_proj *.{{1,6}}.mlp.down_proj
rule on *.{{1,6}}.mlp.down_proj
recipe {static}
rule up *.{{1,6}}.mlp.down_proj
undo
undo
redo
rule delete *.{{1,6}}.mlp.down_proj
undo
rule
rule --format json
history --save {work}/h.slim
"""
FORMS = """load scores tests/golden/analysis/demo-fp32.std.json --as peer
load scores {static}
show peer
exclude *.1.mlp.down_proj
export {work}/a.csv
export {work}/a.txt
export {work}/a.json --as compressed-tensors
rank peer --topk 3
report {work}/a.html
"""
CONVERSION = """apiversion: modelslim_convert
spec:
  preprocess: [{type: rename, patterns: [{from: '(.*)[.]mlp[.](.*)', to: '\\1.ffn.\\2'}]}]
  linears: [{match: ['*.ffn.*'], target: W8A8_MXFP8}, {match: ['*', '*.nothing'], target: FLOAT}]
"""
HANG = 60
SAID = re.compile(rb"^slimscope: .*", re.M)
# figures that differ from run to run
VARIES = re.compile(rb"^(computed|peak memory|# ).*$|\d+\.\d+ s\b|\(\d+ MB/s read and written\)", re.M)


class Case:
    """One command line. {tmp} holds what all runs read, {work} is the run's own empty folder."""

    def __init__(self, name, words, stdin=None, libs=False, setup=None, keep=""):
        self.name, self.words, self.stdin, self.libs, self.setup, self.keep = name, words, stdin, libs, setup, keep


CASES = [
    Case("analyze", ["analyze", "--model_path", MODEL, *DATA, "--metrics", "kurtosis", "std", "quantile", "local_error",
                     "--format", "json"]),
    Case("weights", ["analyze", "--model_path", MODEL, "--threads", "1", "--metrics", "weight_error", "weight_outliers", "group_size",
                     "clipping", "--format", "json"]),
    Case("measure", ["measure", "--model_path", MODEL, *DATA, "--recipe", STATIC, "--calib_dataset", "{tmp}/ids.jsonl",
                     "--eval", "{tmp}/text.jsonl"]),
    Case("quant", ["quant", "--model_path", MODEL, *DATA, "--config_path", "{tmp}/static.yaml", "--save_path",
                   "{work}/model", "--verify"]),
    Case("quant-gptq", ["quant", "--model_path", MODEL, *DATA, "--config_path", "{tmp}/gptq.yaml", "--save_path",
                        "{work}/model"]),
    Case("quant-attention", ["quant", "--model_path", MODEL, *DATA, "--config_path", "{tmp}/attention.yaml", "--save_path",
                             "{work}/model", "--verify"]),
    Case("convert", ["convert", "tests/golden/formats/_models/qwen3-bf16-5", "--threads", "1", "--config_path", "{tmp}/convert.yaml",
                     "--save_path", "{work}/model", "--verify"]),
    Case("tokenize", ["tokenize", "--model_path", "tests/golden/tokenizers/gemma", "--text", "A short text"]),
    Case("tokenize-folder", ["tokenize", "--model_path", "tests/golden/tokenizers_own/gpt2", "--text", "A short text"]),
    Case("session", ["shell", MODEL], stdin=SCRIPT),
    Case("rules", ["shell", MODEL], stdin=RULES),
    Case("forms", ["shell", MODEL], stdin=FORMS),
    Case("libraries", ["measure", "--model_path", MODEL, *DATA, "--recipe", STATIC, "--calib_dataset",
                       "{tmp}/ids.jsonl", "--eval", "{tmp}/text.jsonl"], libs=True),
]


class Runner:
    def __init__(self, program, shim, tmp):
        self.program, self.shim, self.tmp = os.path.abspath(program), os.path.abspath(shim), tmp
        self.put("ids.jsonl", IDS)
        self.put("text.jsonl", TEXT)
        self.put("attention.yaml", ATTENTION)
        self.put("convert.yaml", CONVERSION)
        for name, path, wide, narrow in (("static.yaml", STATIC, "", ""), ("gptq.yaml", GPTQ, "- '*'", "- '*.0.*'")):
            with open(path, encoding="utf-8") as f:
                self.put(name, re.sub(r"dataset: .*", "dataset: ids.jsonl", f.read()).replace(wide, narrow))

    def put(self, name, text):
        with open(os.path.join(self.tmp, name), "w", encoding="utf-8") as f:
            f.write(text)

    def run(self, case, env):
        """(exit code or "hang", stdout, stderr, {file: bytes} of what it wrote)"""
        work = tempfile.mkdtemp(dir=self.tmp)
        place = {"tmp": self.tmp, "work": work, "static": STATIC}
        words = [w.format(**place) for w in case.words]
        asan = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0" # the library comes before ASan's
        whole = dict(os.environ, ASAN_OPTIONS=asan, LD_PRELOAD=self.shim, XDG_STATE_HOME=work + "/state", XDG_CONFIG_HOME=work,
                     LC_ALL="C.UTF-8", OPENBLAS_NUM_THREADS="1", SYNC_SKIP="1", **env)
        if case.libs:
            whole["FAULT_LIBS"] = "1"
        try:
            p = subprocess.run([self.program, *words], env=whole, capture_output=True, timeout=HANG, check=False,
                               input=(case.stdin or "").format(**place).encode())
            code, out, err = p.returncode, p.stdout, p.stderr
        except subprocess.TimeoutExpired as e:
            code, out, err = "hang", e.stdout or b"", e.stderr or b""
        files = {}
        for folder, folders, names in os.walk(work):
            folders[:] = [f for f in folders if f != "state" and not f.startswith(".slimscope")]
            for name in names:
                path = os.path.join(folder, name)
                with open(path, "rb") as f:
                    files[os.path.relpath(path, work)] = self.plain(f.read(), work)
        shutil.rmtree(work)
        return code, self.plain(out, work), err, files

    def plain(self, text, work):
        return VARIES.sub(b"", text.replace(work.encode(), b"WORK"))

    def count(self, case):
        path = os.path.join(self.tmp, "count")
        code, out, err, files = self.run(case, {"FAULT_COUNT": path})
        if code != 0:
            sys.exit("%s fails without a fault: %s\n%s" % (case.name, code, err.decode(errors="replace")))
        with open(path, encoding="utf-8") as f:
            n = int(f.read())
        os.remove(path)
        return n, out, files


def judge(run, want):
    """"clean" or "equal", or what is wrong."""
    code, out, err, files = run
    said = SAID.findall(err)
    if b"Sanitizer" in err or b"runtime error:" in err:
        return "a sanitizer's report"
    if code == 0:
        return "equal" if (out, files) == want else "exit 0 with other output"
    if code != 1:
        return "hangs" if code == "hang" else "exit %s" % code
    if len(said) != 1 or b"memory" not in said[0]:
        return "no clear line"
    for name in files:
        if name not in want[1] or files[name] != want[1][name]:
            return "leaves a file that isn't whole: " + name
    return "clean"


def where(runner, case, n):
    """The calls that led to failure n, by function name."""
    path = os.path.join(runner.tmp, "where-%d" % n)
    runner.run(case, {"FAULT_AT": str(n), "FAULT_WHERE": path})
    try:
        with open(path, encoding="utf-8") as f:
            text = f.read()
    except OSError:
        return "?"
    at = re.findall(re.escape(runner.program) + r"\(\+(0x[0-9a-f]+)\)", text)
    names = subprocess.run(["addr2line", "-sfe", runner.program, *at], capture_output=True, text=True, check=False)
    lines = names.stdout.split("\n")
    return " < ".join("%s %s" % (f, l) for f, l in list(zip(lines[::2], lines[1::2]))[:7])


def try_case(runner, case, whole, step, offset, jobs):
    """whole: what runner.count gave for the case"""
    n, out, files = whole
    positions = range(1 + offset % step, n + 1, step)
    results = {}
    began = time.time()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        def one(i):
            r = runner.run(case, {"FAULT_AT": str(i)})
            results[i] = (judge(r, (out, files)), r[2][-300:].decode(errors="replace").strip().split("\n")[-1])
        list(pool.map(one, positions))
    verdicts = [v for v, _ in results.values()]
    clean, equal = verdicts.count("clean"), verdicts.count("equal")
    bad = sorted(i for i in results if results[i][0] not in ("clean", "equal"))
    text = "%s: %d allocations, %d failed one by one: %d end with a clear line, %d change nothing, %d badly (%.0f s)" % (
        case.name, n, len(results), clean, equal, len(bad), time.time() - began)
    for i in bad[:200]:
        print("# %s %d: %s: %s\n#     %s" % (case.name, i, *results[i], where(runner, case, i)))
    return not bad, text


def cpu_seconds():
    """of this process and those it has run"""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--step", type=int, default=1)
    p.add_argument("--offset", type=int, default=0)
    p.add_argument("--budget", type=float)
    p.add_argument("--only")
    p.add_argument("--at", type=int)
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("program")
    p.add_argument("shim")
    o = p.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        runner = Runner(o.program, o.shim, tmp)
        cases = [c for c in CASES if not o.only or c.name == o.only]
        for k, case in enumerate(cases):
            began = cpu_seconds()
            n, out, files = whole = runner.count(case)
            spent = cpu_seconds() - began
            if o.at:
                r = runner.run(case, {"FAULT_AT": str(o.at)})
                print(r[0], judge(r, (out, files)), where(runner, case, o.at), sep="\n")
                sys.stdout.write(r[1].decode() + r[2].decode())
                return 0
            step = max(1, round(n * spent / (o.budget / len(cases)))) if o.budget else o.step
            fine, text = try_case(runner, case, whole, step, o.offset + k, o.jobs)
            bad += not fine
            print("%sok %d - %s" % ("" if fine else "not ", k + 1, text), flush=True)
    print("1..%d" % len(cases))
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
