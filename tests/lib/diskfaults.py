#!/usr/bin/env python3
"""Lets calls for files of slimscope fail one by one, or kills it before one, and looks at what is left. TAP on stdout: a line
for each scene, with the places that ended badly.

usage: diskfaults.py [--kill] [--budget S] [--only SCENE] [--at OP:HOW:N] PROGRAM SHIM
  --kill       SIGKILL before each call instead of failures
  --budget S   tries a sample that takes about S seconds of all cores together; without it every place is tried
  --at         tries one place of the one scene and keeps its output on the terminal

Rules of a run with a failure, and of one that was killed:
  1. the exit code is 0 where nothing changed, else 74, or 65 for a file that ends too early; EINTR and a short count change
     nothing
  2. a failure is one line "slimscope: ..."
  3. what lay there before is there, whole, or what was to be written is; where some files are old and some new, the line
     says that --resume goes on
  4. nothing else is left but a run's folder .slimscope-SAVER; files of others are never touched
  5. the same command with --resume ends with the same bytes as a run without a failure

A new scene is one more line of SCENES: its command line ({tmp}: shared files, {work}: the run's own folder), and what it
leaves there: a File for one file that is replaced as a whole, an Output for the folder of quant."""
import argparse
import collections
import concurrent.futures
import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

MODEL = "tests/golden/formats/_models/qwen3-bf16"
IDS = '{"input_ids":[11,56,30,21,14,27,8,16,9,3]}\n{"input_ids":[12,5,15,28,7,19,5,15,6,7]}\n'
DATA = ["--threads", "1", "--max-samples", "2"]
FOREIGN = {"my_adapter.safetensors": b"my only copy", "notes.txt": b"mine"}
RECIPE = """apiversion: modelslim_v1
spec:
  process:
  - type: linear_quant
    qconfig:
      act: {scope: %s, dtype: int8, symmetric: %s, method: minmax}
      weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}
  save:
%s  dataset: ids.jsonl
"""
CODED = "tests/golden/formats/_models/qwen3-bf16-4"
CONVERSION = """apiversion: modelslim_convert
spec: {linears: [{match: ['*_proj'], target: FLOAT}], save: [{type: huggingface, part_file_size: %s}]}
"""
FAULTS = [("read", "EIO EINTR short end"), ("pread", "EIO EINTR short end"), ("write", "EIO ENOSPC EINTR short"),
          ("pwrite", "EIO ENOSPC EINTR short"), ("fsync", "EIO"), ("fdatasync", "EIO"), ("rename", "EIO ENOSPC"),
          ("open", "EIO EMFILE"), ("close", "EIO"), ("ftruncate", "EIO"), ("fallocate", "ENOSPC EINTR"),
          ("unlink", "EIO EACCES"), ("mkdir", "ENOSPC"), ("fstat", "EIO")]
KILLS = [(op, "kill") for op in "write pwrite fsync fdatasync rename open close unlink mkdir ftruncate fallocate".split()]
SAMPLED = {"pread": 20, "pwrite": 40}  # all but alike: so many of them
HANG = 120
SAID = re.compile(rb"^slimscope: .*", re.M)


def recipe(savers, act, symmetric, size):
    save = "".join("  - type: %s\n    part_file_size: %s\n" % (s, size) for s in savers)
    return RECIPE % (act, symmetric, save)


def tree(folder):
    """{name: digest} of all files; of a folder that is empty or a run's own: {name + "/": ""}"""
    out = {}
    for where, folders, names in os.walk(folder):
        rel = os.path.relpath(where, folder)
        for name in list(folders):
            if name.startswith(".slimscope-"):
                folders.remove(name)
                out[os.path.normpath(os.path.join(rel, name)) + "/"] = ""
        for name in names:
            with open(os.path.join(where, name), "rb") as f:
                out[os.path.normpath(os.path.join(rel, name))] = hashlib.sha256(f.read()).hexdigest()
    return out


class File:
    """One file that a command replaces as a whole."""
    def __init__(self, name, words, stdin=None):
        self.name, self.words, self.stdin = name, words, stdin

    def prepare(self, runner):
        pass

    def setup(self, work):
        with open(os.path.join(work, "o.txt"), "w", encoding="utf-8") as f:
            f.write("what was there\n")

    def again(self, runner, work):
        return None

    def left(self, now, old, new, said):
        if now != old:
            return "the old file is not whole, or something is left: " + " ".join(sorted(set(now) - set(old)))
        return None


class Output:
    """The folder of quant, over an older output in several shards and beside files of others."""
    def __init__(self, name, savers):
        self.name, self.savers, self.stdin = name, savers, None
        self.words = ["quant", "--model_path", MODEL, *DATA, "--config_path", "{tmp}/%s.yaml" % name, "--save_path",
                      "{work}/q", "--force"]

    def documents(self):
        return [recipe(self.savers, "per_tensor", "false", 4), recipe(self.savers, "per_token", "true", 0.00003)]

    def prepare(self, runner):
        for end, text in zip(("", "-old"), self.documents()):
            runner.put(self.name + end + ".yaml", text)
        self.older = os.path.join(runner.tmp, self.name + "-old")
        os.mkdir(self.older)
        words = [w.replace(self.name + ".yaml", self.name + "-old.yaml") for w in self.words]
        code, _, err = runner.command(words, {}, self.older)
        if code != 0:
            sys.exit("%s: the older output can't be made: %s" % (self.name, err.decode(errors="replace")))
        for name, text in FOREIGN.items():
            with open(os.path.join(self.older, "q", name), "wb") as f:
                f.write(text)

    def setup(self, work):
        shutil.copytree(self.older, work, dirs_exist_ok=True)

    def again(self, runner, work):
        return runner.command([*self.words, "--resume"], {}, work)

    def left(self, now, old, new, said):
        for name in FOREIGN:
            if now.get("q/" + name) != old["q/" + name]:
                return "a file of others was touched: " + name
        for name, digest in now.items():
            of_several = len(self.savers) > 1 and name == "q/config.json"  # the one that is put last counts
            if not (name.endswith("/") or digest in (old.get(name), new.get(name)) or ".slimscope." in name or of_several):
                return "neither old nor new, or left: " + name
        files = {n: d for n, d in now.items() if not n.endswith("/")}
        if files != old and said and b"--resume" not in said[0] and b"is whole" not in said[0]:
            return "old and new files, and the line doesn't say so"
        return None


class Converted(Output):
    """The folder of convert."""
    def __init__(self, name):
        super().__init__(name, ["huggingface"])
        self.words = ["convert", CODED, "--threads", "1", "--config_path", "{tmp}/%s.yaml" % name, "--save_path", "{work}/q", "--force"]

    def documents(self):
        return [CONVERSION % size for size in ("4", "0.0002")]


SCENES = [
    File("analyze", ["analyze", "--model_path", MODEL, *DATA, "--calib_dataset", "{tmp}/ids.jsonl", "--out", "{work}/o.txt"]),
    File("export", ["--script", "-"], "open " + MODEL + "\nexclude *.0.mlp.down_proj\nexport {work}/o.txt! --as yaml\n"),
    File("report", ["--script", "-"], "open " + MODEL + "\nexclude *.0.mlp.down_proj\nreport {work}/o.txt!\n"),
    Output("quant-ascendv1", ["ascendv1_saver"]),
    Output("quant-mindie", ["mindie_format_saver"]),
    Output("quant-compressed", ["compressed_tensors"]),
    Converted("convert"),
    Output("quant-two", ["ascendv1_saver", "compressed_tensors"]),
]


class Runner:
    def __init__(self, program, shim, tmp):
        self.program, self.shim, self.tmp = os.path.abspath(program), os.path.abspath(shim), tmp
        self.put("ids.jsonl", IDS)

    def put(self, name, text):
        with open(os.path.join(self.tmp, name), "w", encoding="utf-8") as f:
            f.write(text)

    def command(self, words, env, work, stdin=None):
        place = {"tmp": self.tmp, "work": work}
        asan = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        whole = dict(os.environ, ASAN_OPTIONS=asan, LD_PRELOAD=self.shim, XDG_STATE_HOME=self.tmp + "/state",
                     XDG_CONFIG_HOME=self.tmp, LC_ALL="C.UTF-8", OPENBLAS_NUM_THREADS="1", SYNC_SKIP="1", **env)
        try:
            p = subprocess.run([self.program, *[w.format(**place) for w in words]], env=whole, capture_output=True,
                               timeout=HANG, check=False, input=(stdin or "").format(**place).encode())
            return p.returncode, p.stdout, p.stderr
        except subprocess.TimeoutExpired as e:
            return "hang", e.stdout or b"", e.stderr or b""

    def run(self, scene, env, then):
        """what then(code, stdout, stderr, work) says of a run in a folder as the scene sets it up"""
        work = tempfile.mkdtemp(dir=self.tmp)
        try:
            scene.setup(work)
            return then(*self.command(scene.words, env, work, scene.stdin), work)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def whole(self, scene):
        """(calls of each kind, old tree, new tree) of a run without a failure"""
        count = os.path.join(self.tmp, "count")
        with tempfile.TemporaryDirectory(dir=self.tmp) as work:
            scene.setup(work)
            old = tree(work)

        def look(code, _, err, work):
            if code != 0:
                sys.exit("%s fails without a fault: %s\n%s" % (scene.name, code, err.decode(errors="replace")))
            return tree(work)
        new = self.run(scene, {"DISK_COUNT": count}, look)
        with open(count, encoding="utf-8") as f:
            calls = {op: int(n) for op, n in (line.split() for line in f)}
        os.remove(count)
        return calls, old, new


def judge(runner, scene, whole, op, how, n):
    """"told", "equal" or "killed", or what is wrong."""
    _, old, new = whole

    def look(code, _, err, work):
        said, now = SAID.findall(err), tree(work)
        if b"Sanitizer" in err or b"runtime error:" in err:
            return "a sanitizer's report"
        if code == 0:
            if op in ("unlink", "open"):  # a run's folder that can't be removed is in nobody's way
                now = {n: d for n, d in now.items() if not n.endswith("/")}
            return "equal" if now == new else "exit 0 with another result"
        if how == "kill" and code == -9:
            kind = "killed"
        elif code == 74 or (code == 65 and how == "end"):
            kind = "told"
            if how in ("EINTR", "short"):
                return "%s is taken for a failure" % how
            if len(said) != 1:
                return "%d lines" % len(said)
        else:
            return "exit %s" % code
        wrong = None
        if kind == "told" or isinstance(scene, Output):
            wrong = scene.left(now, old, new, said)
        again = None if wrong else scene.again(runner, work)
        if again and again[0] != 0:
            wrong = "--resume: exit %s: %s" % (again[0], b" ".join(SAID.findall(again[2])).decode(errors="replace"))
        elif again and tree(work) != new:
            wrong = "--resume gives other bytes"
        return wrong or kind
    return runner.run(scene, {"DISK_OP": op, "DISK_HOW": how, "DISK_AT": str(n)}, look)


def places(calls, faults):
    out = []
    for op, hows in faults:
        n = calls.get(op, 0)
        some = min(n, SAMPLED.get(op, n))
        at = sorted({1 + i * n // some for i in range(some)}) if some else []
        out += [(op, how, k) for how in hows.split() for k in at]
    return out


def try_scene(runner, scene, faults, seconds, jobs):
    scene.prepare(runner)
    whole = runner.whole(scene)
    todo = places(whole[0], faults)
    every = len(todo)
    results = {}
    began = time.time()
    if seconds:  # in an order that covers all kinds of calls early, as many as there is time for
        step = next(s for s in (613, 617, 619, 1) if math.gcd(every, s) == 1)
        todo = [todo[i * step % every] for i in range(every)]

    def one(place):
        if not seconds or time.time() - began < seconds:
            results[place] = judge(runner, scene, whole, *place)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, todo))
    count = collections.Counter(results.values())
    bad = sorted(p for p, r in results.items() if r not in ("told", "equal", "killed"))
    for p in bad[:100]:
        print("# %s %s:%s:%d: %s" % (scene.name, *p, results[p]))
    print("%sok - %s: %d of %d places: %d told, %d killed, %d change nothing, %d badly" % (
        "not " if bad else "", scene.name, len(results), every, count["told"], count["killed"], count["equal"], len(bad)),
          flush=True)
    return bool(bad)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--kill", action="store_true")
    p.add_argument("--budget", type=float)
    p.add_argument("--only")
    p.add_argument("--at")
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("program")
    p.add_argument("shim")
    o = p.parse_args()
    scenes = [s for s in SCENES if not o.only or s.name == o.only]
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        runner = Runner(o.program, o.shim, tmp)
        for scene in scenes:
            if o.at:
                op, how, n = o.at.split(":")
                scene.prepare(runner)
                whole = runner.whole(scene)
                code, out, err = runner.run(scene, {"DISK_OP": op, "DISK_HOW": how, "DISK_AT": n}, lambda *r: r[:3])
                sys.stdout.write("exit %s\n%s%s\n" % (code, out.decode(), err.decode()))
                print(judge(runner, scene, whole, op, how, int(n)))
                continue
            bad += try_scene(runner, scene, KILLS if o.kill else FAULTS, o.budget and o.budget / len(scenes), o.jobs)
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
