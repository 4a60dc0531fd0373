#!/usr/bin/env python3
"""Runs the measurements of make bench and prints them as a table. usage: report.py PROGRAM BENCH-FOLDER MODEL"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

PROGRAM, BENCH, MODEL = sys.argv[1:4]
DEMO, TOKENS = "lab_models/demo", os.path.join(MODEL, "tokens.jsonl")
CORES = len(os.sched_getaffinity(0))


def row(name, value, note=""):
    print("%-34s %12s   %s" % (name, value, note))
    sys.stdout.flush()


def timed(argv, env, stdin=None):
    """The whole process: wall seconds, cpu seconds, peak resident MB, stdout, stderr."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        t0 = time.monotonic()
        p = subprocess.Popen(argv, env=env, stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, used = os.wait4(p.pid, 0)
        wall = time.monotonic() - t0
        p.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        texts = out.read().decode(), err.read().decode()
    if p.returncode:
        sys.exit("bench: %s ended with %d: %s" % (" ".join(argv[:4]), p.returncode, texts[1][-500:]))
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6, texts[0], texts[1]


def gemm():
    return float(subprocess.run([os.path.join(BENCH, "gemm_peak"), "2048", "3072", "1024", "20"], stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, check=True).stdout)


def linear_parameters():
    """Of the linears inside the layers: what an analysis multiplies every token with."""
    with open(os.path.join(MODEL, "model.safetensors"), "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    return sum(t["shape"][0] * t["shape"][1] for n, t in header.items() if ".layers." in n and len(t["shape"]) == 2)


def analyze(metrics, env):
    with open(os.path.join(MODEL, "model.safetensors"), "rb") as f:
        while f.read(1 << 24):
            pass  # from the page cache, as the figure is about computing
    return timed([PROGRAM, "analyze", "--model_path", MODEL, "--calib_dataset", TOKENS, "--progress", "never", "--metrics", *metrics], env)


def throughput(env):
    with open(TOKENS) as f:
        tokens = sum(len(json.loads(line)["input_ids"]) for line in f)
    flops = 2.0 * linear_parameters() * tokens
    before = gemm()
    one = analyze(["kurtosis"], env)
    between = gemm()
    every = analyze(["std", "quantile", "kurtosis", "local_error"], env)
    after = gemm()
    best = max(before, between, after)
    row("best sgemm", "%.1f GFLOP/s" % best, "M 2048, N 3072, K 1024, OpenBLAS's own threads: before %.1f, between %.1f, after %.1f"
        % (before, between, after))
    shares = []
    for name, r in (("kurtosis alone", one), ("all metrics together", every)):
        wall, cpu, rss, _, err = r
        bound = re.search(r"planned at most ([0-9.]+) MiB", err)
        shares.append(flops / wall / 1e9 / best)
        row(name, "%.2f of sgemm" % shares[-1], "%.1f s wall, %.1f s cpu (%.2f of %d cores; %.2f of sgemm if it had them all), %.0f tokens/s"
            % (wall, cpu, cpu / wall, CORES, flops * CORES / cpu / 1e9 / best, tokens / wall))
        row("  peak memory", "%.0f MB" % rss, "planned at most %.0f MB" % (float(bound.group(1)) * 1.048576) if bound else "")
    return shares, max(one[2], every[2])


def measure(env):
    """On the demo model: everything, and once more after one late layer went to float. What "computed" says of each."""
    with tempfile.TemporaryFile() as f:
        f.write(("open %s\nmeasure\nexclude model.layers.6.mlp.down_proj\nmeasure\n" % DEMO).encode())
        f.seek(0)
        told = re.findall(r"^computed +(.*), ([0-9.]+) s", timed([PROGRAM, "--script", "-"], env, stdin=f)[3], re.M)
    for name, (what, seconds) in zip(("measure, everything", "measure, after one late edit"), told):
        row(name, seconds + " s", "demo model: " + what)


def tokenizer(env, folder):
    path = os.path.join(folder, "prose.txt")
    with open("lab_calib/eval.jsonl") as f:
        prose = "\n".join(next(v for v in json.loads(line).values() if isinstance(v, str)) for line in f)
    with open(path, "w") as f:
        f.write(prose * (8000000 // len(prose) + 1))
    start = min(timed([PROGRAM, "tokenize", "--model_path", DEMO, "--text", "a"], env)[0] for _ in range(3))
    wall = timed([PROGRAM, "tokenize", "--model_path", DEMO, "--file", path], env)[0]
    row("tokenizer on prose", "%.1f MB/s" % (os.path.getsize(path) / 1e6 / (wall - start)), "one core; start-up of %.0f ms taken off"
        % (start * 1e3))


def weights_size(folder):
    return sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder) if f.endswith(".safetensors"))


def copy_rate(folder, written):
    """Bytes a second by reading the model's weights and writing the first `written` of them down to the disk."""
    path = os.path.join(folder, "copy")
    begin = time.monotonic()
    with open(os.path.join(MODEL, "model.safetensors"), "rb") as f, open(path, "wb") as to:
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


def quantize(env):
    """A recipe without data is bound by reading and writing: beside as many plain bytes on the same disk, the best of two copies."""
    with tempfile.TemporaryDirectory(dir=BENCH) as folder:
        out = os.path.join(folder, "out")
        copy_rate(folder, 0)  # into the page cache, for all that follow
        wall, cpu, rss, _, _ = timed([PROGRAM, "quant", "--model_path", MODEL, "--save_path", out, "--progress", "never", "--config_path",
                                      "lab_practice/default/default-w8a8-dynamic.yaml"], env)
        read, written = weights_size(MODEL), weights_size(out)
        copy = max(copy_rate(folder, written) for _ in range(2))
    rate = (read + written) / 1e6 / wall
    row("quantize without data", "%.0f MB/s" % rate, "W8A8_DYNAMIC: %.0f MB read, %.0f MB written and synced in %.1f s (%.1f s cpu); %.2f of a plain copy's %.0f MB/s"
        % (read / 1e6, written / 1e6, wall, cpu, rate / copy, copy))
    row("  peak memory", "%.0f MB" % rss)


def latency():
    r = subprocess.run([sys.executable, "tests/bench/latency.py", PROGRAM, DEMO, "--busy-model", MODEL, "--calib", TOKENS, "--keys", "300"],
                       stdout=subprocess.PIPE, check=True, text=True).stdout
    paint = re.search(r"median (\d+) ms, worst of (\d+): (\d+)", r)
    keys = re.search(r"p50 ([\d.]+) ms, p90 ([\d.]+) ms, p99 ([\d.]+) ms, max ([\d.]+) ms \((\d+)", r)
    row("first paint", "%s ms" % paint.group(1), "exec to the demo model's table, median of %s; worst %s ms" % (paint.group(2), paint.group(3)))
    row("key to paint while a job runs", "%s ms" % keys.group(3), "p99 of %s keys; p50 %s, p90 %s, max %s ms"
        % (keys.group(5), keys.group(1), keys.group(2), keys.group(4)))
    return float(paint.group(1)), float(keys.group(3))


def main():
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        env = dict(os.environ, LC_ALL="C.UTF-8", XDG_STATE_HOME=folder, XDG_CONFIG_HOME=folder, XDG_CACHE_HOME=folder)
        shares, memory = throughput(env)
        measure(env)
        tokenizer(env, folder)
        quantize(env)
        paint, key = latency()
    if load > 0.5:
        print("(others used this machine when this began, load %.1f: what is measured is lower than it would be alone)" % load)
    figures = (("kurtosis", shares[0], 0.80, "%.2f", ">="), ("all metrics", shares[1], 0.75, "%.2f", ">="), ("MB", memory, 300, "%.0f", "<"),
               ("ms first paint", paint, 100, "%.0f", "<"), ("ms key to paint p99", key, 50, "%.0f", "<"))
    print("targets: " + ", ".join(("%s " + f + " (%s " + f + ", %s)")
                                  % (n, v, op, t, "reached" if (v >= t if op == ">=" else v < t) else "missed") for n, v, t, f, op in figures))


main()
