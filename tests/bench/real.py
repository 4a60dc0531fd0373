#!/usr/bin/env python3
"""make bench-real: a model of yours, as its users run it. usage: real.py PROGRAM BENCH-FOLDER [MODEL-FOLDER]"""
import glob
import json
import os
import sys
import tempfile

import lab

PROGRAM, BENCH = sys.argv[1:3]
MODEL = sys.argv[3] if len(sys.argv) > 3 else None
page = lab.Page()


def row(what, r, tokens=None):
    if not r:
        page.line("  %-44s refused" % what)
        return
    page.line("  %-44s %8.2f %8.2f %9s   %s" % (what, r.cpu, r.wall, "%.0f" % (tokens / r.wall) if tokens else "-", r.memory()),
              run=what, cpu=r.cpu, wall=r.wall, tokens=tokens, peak=r.peak, plan=r.plan)


def data(d, key):
    return d.get(key, {}).get("tokens", 0)


def main():
    if not MODEL or not os.path.isfile(os.path.join(MODEL, "config.json")):
        print("bench-real: give a model's folder, MODEL=DIR%s" % (": '%s' is none" % MODEL if MODEL else ""))
        return
    lab.read_once(MODEL)
    page.line("%s, %.0f MB of weights; load %.1f of %d cores" % (MODEL, lab.weights_size(MODEL) / 1e6, os.getloadavg()[0], lab.CORES), model=MODEL)
    page.line("  %-44s %8s %8s %9s   %s" % ("", "CPU-s", "s", "tokens/s", "peak memory"))
    with tempfile.TemporaryDirectory() as state, tempfile.TemporaryDirectory(dir=BENCH) as folder:
        env = lab.environment(state)
        shared = ["--model_path", MODEL, "--progress", "never"] + (["--max-samples", "8", "--seq-len", "128"] if lab.QUICK else [])
        for mode in lab.arithmetics(PROGRAM):
            r = lab.timed([PROGRAM, "analyze", *shared, "--dtype-sim", mode, "--format", "json"], env)
            row("analyze, %s" % mode, r, data(json.loads(r.out), "calibration"))
        r = lab.timed([PROGRAM, "measure", *shared, "--format", "json"], env)
        d = json.loads(r.out)
        row("measure, default recipe", r, 2 * (data(d, "calibration") + data(d, "evaluation")))
        for i, recipe in enumerate(sorted(glob.glob("lab_practice/default/*.yaml"))):
            out = os.path.join(folder, str(i))
            row("quant, " + os.path.basename(recipe), lab.timed([PROGRAM, "quant", *shared, "--save_path", out, "--config_path", recipe], env,
                                                               may_fail=True))


main()
