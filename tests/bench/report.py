#!/usr/bin/env python3
"""make bench: one page of figures. usage: report.py PROGRAM BENCH-FOLDER. CPU seconds repeat where seconds don't: a
machine that others use, too, gives the first ones within a few parts of a hundred."""
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import lab

PROGRAM, BENCH = sys.argv[1:3]
DEMO = "lab_models/demo"
page = lab.Page()


def best_levels(rows):
    seen = []
    for r in rows:
        if r["level"] not in seen and r["kind"] in ("f32", "bf16", "exact"):
            seen.append(r["level"])
    return seen


def products(rows, peaks):
    page.head("Products of matrices, one thread: GFLOP/s, and the share of what the processor can do at most")
    page.line("  at most: " + ", ".join("%s %.0f" % p for p in peaks.items()), peaks=peaks)
    for r in rows:
        page.keep(**r)
    levels = best_levels(rows)
    large = {(r["kind"], r["level"]): r for r in rows if r["side"] == 1024}
    page.line("  %-10s" % "" + "".join("%18s" % n for n in levels))
    for kind in ("f32", "bf16", "exact"):
        cells = [large.get((kind, n)) for n in levels]
        if any(cells):
            page.line("  %-10s" % kind + "".join("%18s" % (("%.1f" % c["gflops"] + (" (%.2f)" % c["share"] if "share" in c else "       "))
                                                           if c else "-") for c in cells))
    blas = [r for r in rows if r["kind"] == "openblas"]
    if blas:
        page.line("  OpenBLAS %s: sgemm %.1f (%.2f)" % (blas[0]["level"], blas[0]["gflops"], blas[0].get("share", 0)))
    factor = next(r for r in rows if r["kind"] == "factor")
    page.line("  gptq's factor of %d inputs, float64, %d threads: %.1f a CPU-s%s, %.2f CPU-s"
              % (factor["side"], factor["threads"], factor["gflops"], " (%.2f)" % factor["share"] if "share" in factor else "", factor["cpu"]))
    few = sorted({r["rows"] for r in rows if r["rows"] < 768 and r["side"] == 2048 and r["kind"] != "factor"})
    page.line("  %-10s" % "few rows" + "".join("%18d" % n for n in few))
    for kind in ("f32", "bf16", "openblas"):
        cells = [next((r for r in rows if r["kind"] == kind and r["rows"] == n and r["side"] == 2048), None) for n in few]
        if any(cells):
            page.line("  %-10s" % kind + "".join("%18s" % ("%.1f (%.2f)" % (c["gflops"], c.get("share", 0))) for c in cells))


def analysis_row(name, a, best, **more):
    share = a.rate() / best if best else None
    page.line("  %-24s %7.2f %7.2f %9.0f %8s   %s" % (name, a.cpu, a.wall, a.tokens / a.wall,
                                                     "%.2f" % share if share else "-", a.ran.memory()),
              run=name, cpu=a.cpu, wall=a.wall, tokens=a.tokens, share=share, peak=a.ran.peak, plan=a.ran.plan, parts=a.parts, **more)


def analyses(env, folder, rows):
    modes = [m for m in ("fp32", "fast", "model", "exact") if m in lab.arithmetics(PROGRAM)]
    page.head("Analysis of 28 layers of Qwen3-0.6B's shape, 2,640 tokens in 16 texts; share: of the best product of that kind")
    page.line("  %-24s %7s %7s %9s %8s   %s" % ("kurtosis", "CPU-s", "s", "tokens/s", "share", "peak memory"))
    parts = {}
    for mode in modes:
        if mode == "exact" and lab.QUICK:
            continue
        layers = 7 if mode == "exact" else 28
        a = lab.analyze(PROGRAM, env, lab.dense(BENCH, layers), mode=mode)
        analysis_row(mode if layers == 28 else "%s, %d layers" % (mode, layers), a, lab.best_rate(rows, mode))
        parts[mode] = a.parts
    every = lab.analyze(PROGRAM, env, folder, metrics=("std", "quantile", "kurtosis", "local_error"))
    analysis_row("%s, all metrics" % modes[0], every, lab.best_rate(rows, modes[0]))
    lab.parts_table(page, parts)


def weights(env, folder):
    """Analyses without data: bound by reading where they do little with a value. MB: of the checkpoint."""
    page.head("Analyses of weights alone, 28 layers of Qwen3-0.6B's shape: no data, bytes of the checkpoint")
    page.line("  %-24s %7s %7s %9s %9s   %s" % ("", "CPU-s", "s", "GB/s", "GB/CPU-s", "peak memory"))
    size, every = lab.weights_size(folder), ("weight_error", "weight_outliers", "group_size", "clipping")
    lab.read_once(folder)
    for name, metrics in [(m, (m,)) for m in every] + [("all four", every)]:
        r = lab.timed([PROGRAM, "analyze", "--model_path", folder, "--progress", "never", "--format", "csv", "--metrics", *metrics], env)
        page.line("  %-24s %7.2f %7.2f %9.2f %9.2f   %s" % (name, r.cpu, r.wall, size / 1e9 / r.wall, size / 1e9 / r.cpu, r.memory()),
                  run=name, cpu=r.cpu, wall=r.wall, rate=size / 1e9 / r.wall, peak=r.peak, plan=r.plan)


def sweep(env):
    """Each layer alone quantized, all candidates together: passes of a layer's weights, and msModelSlim's, whose block runs
    once for each text and candidate."""
    layers = 4 if lab.QUICK else 7
    folder = lab.dense(BENCH, layers)
    page.head("mse_model_wise of %d layers of Qwen3-0.6B's shape, 2,640 tokens in 16 texts" % layers)
    one = lab.analyze(PROGRAM, env, folder)
    a = lab.analyze(PROGRAM, env, folder, metrics=("mse_model_wise",))
    passes, peer = a.calls["decode"] / one.calls["decode"], 16 * ((layers + 1) / 2 + 1)
    page.line("  passes of a layer: %.1f, msModelSlim's %.0f (share %.3f); %.2f CPU-s, %.1f times kurtosis (the work: %.1f); %s"
              % (passes, peer, passes / peer, a.cpu, a.cpu / one.cpu, (layers + 1) / 2 + 1, a.ran.memory()), run="mse_model_wise", cpu=a.cpu,
              wall=a.wall, passes=passes, peer=peer, kurtosis=one.cpu, peak=a.ran.peak, plan=a.ran.plan)


def growth(env):
    page.head("How it grows: fp32, kurtosis; 2,640 tokens in 16 texts, all cores, where nothing else is said")
    runs = [("7 layers", 7, [165] * 16, 0), ("14 layers", 14, [165] * 16, 0), ("7 layers, 5,280 tokens in 32", 7, [165] * 32, 0)]
    runs += [("7 layers, %d thread%s" % (n, "" if n == 1 else "s"), 7, [165] * 16, n) for n in (1, 2, 4)]
    runs += [("2 layers, one text of %s" % format(n, ","), 2, [n], 0) for n in ((2640, 5280) if lab.QUICK else (2640, 5280, 10560))]
    page.line("  %-30s %8s %8s   %s" % ("", "CPU-s", "s", "peak memory"))
    for name, layers, shape, threads in runs:
        folder = lab.dense(BENCH, layers)
        a = lab.analyze(PROGRAM, env, folder, tokens=lab.texts(BENCH, "texts.jsonl", shape), threads=threads)
        page.line("  %-30s %8.2f %8.2f   %s" % (name, a.cpu, a.wall, a.ran.memory()), growth=name, cpu=a.cpu, wall=a.wall,
                  peak=a.ran.peak, plan=a.ran.plan, parts=a.parts)


def experts(env, rows):
    if lab.QUICK:
        return
    folder = lab.model(BENCH, "qwen3-30b-a3b-shape", "--layers", "1", "--hidden", "2048", "--heads", "32", "--kv-heads", "4",
                       "--experts", "128")
    modes = [m for m in ("fp32", "fast") if m in lab.arithmetics(PROGRAM)]
    page.head("Experts: one layer of Qwen3-30B-A3B's shape (128, of which a token chooses 8); kurtosis")
    page.line("  %-24s %7s %7s %9s %8s   %s" % ("", "CPU-s", "s", "tokens/s", "share", "peak memory"))
    lab.read_once(folder)
    parts = {}
    for mode in modes:
        for n in (16, 2):
            a = lab.analyze(PROGRAM, env, folder, tokens=lab.texts(BENCH, "texts.jsonl", [165] * n), mode=mode)
            analysis_row("%s, %d tokens" % (mode, 165 * n), a, lab.best_rate(rows, mode))
            parts["%s %d" % (mode, 165 * n)] = a.parts
    lab.parts_table(page, parts)


def measure(env):
    """Of the large model at once, of the demo model also after one late layer went to float: what "computed" says of each."""
    page.head("Measuring")
    if not lab.QUICK:
        folder = lab.dense(BENCH, 7)
        calib = os.path.join(folder, "tokens.jsonl")
        r = lab.timed([PROGRAM, "measure", "--model_path", folder, "--calib_dataset", calib, "--eval", calib, "--progress", "never",
                       "--profile", "--format", "json"], env)
        parts = {k: v["cpu_seconds"] for k, v in json.loads(r.out)["profile"]["parts"].items()}
        page.line("  7 layers, 2,640 and 1,024 tokens: %.2f CPU-s, %.2f s, %s" % (r.cpu, r.wall, r.memory()), run="measure", cpu=r.cpu,
                  wall=r.wall, peak=r.peak, plan=r.plan, parts=parts)
        lab.parts_table(page, {"measure": parts})
    with tempfile.TemporaryFile() as f:
        f.write(("open %s\nmeasure\nexclude model.layers.6.mlp.down_proj\nmeasure\n" % DEMO).encode())
        f.seek(0)
        told = re.findall(r"^computed +(.*), ([0-9.]+) s", lab.timed([PROGRAM, "--script", "-"], env, stdin=f).out, re.M)
    page.line("  demo model: " + "; ".join("%s s (%s)" % (s, what) for what, s in told), run="measure demo",
              seconds=[float(s) for _, s in told])


SIDE = "{dtype: int8, scope: per_%s, symmetric: true, method: minmax}"
SMOOTHERS = (("kv_smooth", ""), ("smooth_quant", ""), ("iter_smooth", ""), ("flex_smooth_quant", ""),
             ("flex_awq_ssz", ", qconfig: {act: %s, weight: %s}" % (SIDE % "token", SIDE % "channel")),
             ("awq", ", weight_qconfig: " + SIDE % "channel"), ("quarot", ""), ("adapt_rotation", ", stage: 2"))
PRIOR = {"adapt_rotation": "  prior:\n  - process: [{type: adapt_rotation, stage: 1}]\n    dataset: %s\n"}


def smoothing(env):
    """What changing the model costs before it is analysed: its CPU seconds over those of a plain pass, both in this run."""
    page.head("Smoothing")
    folder = lab.dense(BENCH, 7)
    ask = [PROGRAM, "analyze", "linear", "kurtosis", "--model_path", folder, "--calib_dataset", os.path.join(folder, "tokens.jsonl"),
           "--progress", "never", "--format", "json"]
    plain = lab.timed(ask, env)
    page.line("  a plain pass over 7 layers: %.2f CPU-s" % plain.cpu, run="smooth plain", cpu=plain.cpu, wall=plain.wall)
    with tempfile.TemporaryDirectory(dir=BENCH) as at:
        for name, keys in SMOOTHERS[2:3] if lab.QUICK else SMOOTHERS:
            recipe = os.path.join(at, name + ".yaml")
            with open(recipe, "w") as f:
                prior = PRIOR[name] % os.path.join(folder, "tokens.jsonl") if name in PRIOR else ""
                f.write("apiversion: modelslim_v1\nspec:\n%s  process:\n  - {type: %s%s}\n" % (prior, name, keys))
            r = lab.timed(ask + ["--recipe", recipe], env)
            more = (r.cpu - plain.cpu) / plain.cpu
            page.line("  %-18s %.2f CPU-s more, %.2f of the pass; %s" % (name, r.cpu - plain.cpu, more, r.memory()),
                      run="smooth " + name, cpu=r.cpu - plain.cpu, share=more, peak=r.peak, plan=r.plan)


def copy_rate(model, folder, written):
    """Bytes a second by reading the model's weights and writing the first `written` of them down to the disk."""
    path = os.path.join(folder, "copy")
    begin = time.monotonic()
    with open(os.path.join(model, "model.safetensors"), "rb") as f, open(path, "wb") as to:
        left, read, block = written, 0, f.read(1 << 22)
        while block:
            to.write(block[:left])
            left, read = max(left - len(block), 0), read + len(block)
            block = f.read(1 << 22)
        to.flush()
        os.fsync(to.fileno())
    seconds = time.monotonic() - begin
    os.remove(path)
    return (read + written) / 1e6 / seconds


def quantize(env, model):
    """A recipe without data is bound by reading and writing: beside as many plain bytes on the same disk, the best of two copies."""
    page.head("Quantizing")
    with tempfile.TemporaryDirectory(dir=BENCH) as folder:
        out = os.path.join(folder, "out")
        r = lab.timed([PROGRAM, "quant", "--model_path", model, "--save_path", out, "--progress", "never", "--config_path",
                       "lab_practice/default/default-w8a8-dynamic.yaml"], env)
        read, written = lab.weights_size(model), lab.weights_size(out)
        copy = max(copy_rate(model, folder, written) for _ in range(2))
    rate = (read + written) / 1e6 / r.wall
    page.line("  W8A8_DYNAMIC, no data: %.0f MB/s, %.2f of a plain copy's %.0f (%.0f MB read, %.0f written and synced); %.2f CPU-s, %.2f s, %s"
              % (rate, rate / copy, copy, read / 1e6, written / 1e6, r.cpu, r.wall, r.memory()),
              run="quant", cpu=r.cpu, wall=r.wall, rate=rate, copy=copy, peak=r.peak, plan=r.plan)


def tokenizer(env, folder):
    path = os.path.join(folder, "prose.txt")
    with open("lab_calib/eval.jsonl") as f:
        prose = "\n".join(next(v for v in json.loads(line).values() if isinstance(v, str)) for line in f)
    with open(path, "w") as f:
        f.write(prose * (8000000 // len(prose) + 1))
    start = min(lab.timed([PROGRAM, "tokenize", "--model_path", DEMO, "--text", "a"], env).cpu for _ in range(3))
    cpu = lab.timed([PROGRAM, "tokenize", "--model_path", DEMO, "--file", path], env).cpu
    rate = os.path.getsize(path) / 1e6 / (cpu - start)
    page.line("  tokenizer on prose: %.1f MB a CPU-s; start-up %.0f ms" % (rate, start * 1e3), run="tokenizer", rate=rate, start=start)


def latency(model):
    r = subprocess.run([sys.executable, "tests/bench/latency.py", PROGRAM, DEMO, "--many", "60000", "--busy-model", model, "--calib",
                        os.path.join(model, "tokens.jsonl"), "--keys", "100" if lab.QUICK else "300"],
                       stdout=subprocess.PIPE, check=True, text=True).stdout
    paint = re.search(r"median (\d+) ms, worst of (\d+): (\d+)", r)
    keys = re.search(r"p50 ([\d.]+) ms, p90 ([\d.]+) ms, p99 ([\d.]+) ms, max ([\d.]+) ms \((\d+)", r)
    page.line("  first paint %s ms (worst of %s: %s); key to paint while a job runs: p50 %s, p99 %s, max %s ms of %s keys"
              % (paint.group(1), paint.group(2), paint.group(3), keys.group(1), keys.group(3), keys.group(4), keys.group(5)),
              run="latency", paint=float(paint.group(1)), p50=float(keys.group(1)), p99=float(keys.group(3)))
    first = re.search(r"first paint with (\d+) linears  median (\d+) ms", r)
    many = re.search(r"key to paint with \d+ linears  p50 ([\d.]+) ms, p99 ([\d.]+) ms", r)
    page.line("  with %s linears: first paint %s ms; key to paint while a job runs: p50 %s, p99 %s ms"
              % (first.group(1), first.group(2), many.group(1), many.group(2)),
              run="latency_many", paint=float(first.group(2)), p50=float(many.group(1)), p99=float(many.group(2)))
    page.line(re.search(r"  processor time of a key.*", r).group(0), run="key_cost")


def main():
    with open("/proc/cpuinfo") as f:
        name = re.search(r"model name\s*: (.*)|$", f.read()).group(1) or "unknown processor"
    load = os.getloadavg()[0]
    page.line("%s, %d cores for this process, load %.1f%s"
              % (name, lab.CORES, load, ": others use it, CPU-s and shares hold, s do not" if load > 0.5 else ""),
              processor=name, cores=lab.CORES, load=load)
    folder = lab.dense(BENCH)
    with tempfile.TemporaryDirectory() as state:
        env = lab.environment(state)
        peaks, rows = lab.kernels(BENCH)
        products(rows, peaks)
        analyses(env, folder, rows)
        weights(env, folder)
        sweep(env)
        growth(env)
        experts(env, rows)
        measure(env)
        smoothing(env)
        quantize(env, folder)
        page.head("The workbench")
        tokenizer(env, state)
        latency(folder)


main()
