"""What the benchmarks share: programs run and looked at from outside, models made once, a page of rows and lines of JSON."""
import json
import os
import re
import subprocess
import sys
import tempfile
import time

QUICK = bool(os.environ.get("QUICK"))
CORES = len(os.sched_getaffinity(0))


class Page:
    """Rows for a person as they come, and what they tell as JSON lines into $JSON."""

    def __init__(self):
        self.file = open(os.environ["JSON"], "w") if os.environ.get("JSON") else None

    def head(self, text):
        print("\n" + text)

    def line(self, text, **values):
        print(text)
        sys.stdout.flush()
        self.keep(**values)

    def keep(self, **values):
        if self.file and values:
            self.file.write(json.dumps(values) + "\n")
            self.file.flush()


class Ran:
    """A process that ended: seconds, CPU seconds, peak resident MB, what it wrote. peak, plan: what slimscope says of its job."""

    def __init__(self, wall, cpu, rss, out, err):
        self.wall, self.cpu, self.rss, self.out, self.err = wall, cpu, rss, out, err
        told = re.search(r"peak memory ([0-9.]+) MiB, planned at most ([0-9.]+) MiB", err)
        self.peak, self.plan = (float(n) * 1.048576 for n in told.groups()) if told else (None, None)

    def memory(self):
        return "%.0f MB of %.0f planned" % (self.peak, self.plan) if self.plan else "%.0f MB" % self.rss


def environment(folder):
    """Sessions and caches of a run lie in folder."""
    return dict(os.environ, LC_ALL="C.UTF-8", XDG_STATE_HOME=folder, XDG_CONFIG_HOME=folder, XDG_CACHE_HOME=folder)


def timed(argv, env=None, stdin=None, may_fail=False):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        t0 = time.monotonic()
        p = subprocess.Popen(argv, env=env, stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, used = os.wait4(p.pid, 0)
        wall = time.monotonic() - t0
        p.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        texts = out.read().decode(errors="replace"), err.read().decode(errors="replace")
    if p.returncode and may_fail:
        return None
    if p.returncode:
        sys.exit("bench: %s ended with %d: %s" % (" ".join(argv[:4]), p.returncode, texts[1][-500:]))
    return Ran(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6, *texts)


# ---- models ----

def model(bench, name, *options):
    """The folder of a random model, made when it isn't there (gen_model.py)."""
    folder = os.path.join(bench, name)
    if not os.path.exists(os.path.join(folder, "tokens.jsonl")):
        print("making the random model %s (once)" % folder, file=sys.stderr)
        subprocess.run([sys.executable, "tests/bench/gen_model.py", folder, *options], check=True)
    return folder


def dense(bench, layers=28):
    """Layers of Qwen3-0.6B's shape, and 16 texts of 165 tokens."""
    return model(bench, "qwen3-0.6b-%d-layers" % layers, "--layers", str(layers))


def texts(bench, name, lengths, vocab=4096):
    """A file of texts of these many random tokens."""
    path, seed = os.path.join(bench, name), 1
    with open(path, "w") as f:
        for n in lengths:
            ids = []
            for _ in range(n):
                seed = (seed * 6364136223846793005 + 1442695040888963407) & (2 ** 64 - 1)
                ids.append((seed >> 33) % vocab)
            f.write(json.dumps({"input_ids": ids}) + "\n")
    return path


def tokens_of(path):
    with open(path) as f:
        return sum(len(json.loads(line)["input_ids"]) for line in f)


def header(folder):
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        return json.loads(f.read(int.from_bytes(f.read(8), "little")))


def weights_size(folder):
    return sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder) if f.endswith(".safetensors"))


def read_once(folder):
    """Into the page cache: the figures are about computing."""
    for name in os.listdir(folder):
        if name.endswith(".safetensors"):
            with open(os.path.join(folder, name), "rb") as f:
                while f.read(1 << 24):
                    pass


def linear_work(folder):
    """Operations of one token in the linears inside the layers; of experts those that a token chooses."""
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    share = config.get("num_experts_per_tok", 0) / config["num_experts"] if config.get("num_experts") else 0
    return sum(2.0 * t["shape"][0] * t["shape"][1] * (share if ".experts." in n else 1)
               for n, t in header(folder).items() if ".layers." in n and len(t["shape"]) == 2)


# ---- runs of slimscope ----

def arithmetics(program):
    """What --dtype-sim of this build takes."""
    told = timed([program, "analyze", "--help"]).out
    return re.search(r"--dtype-sim (\S+)", told).group(1).split("|")


class Analysis:
    def __init__(self, ran, tokens, work):
        self.ran, self.tokens = ran, tokens
        self.cpu, self.wall = ran.cpu, ran.wall
        self.flops = work * tokens
        profile = json.loads(ran.out)["profile"]
        self.parts = {k: v["cpu_seconds"] for k, v in profile["parts"].items()}
        self.calls = {k: v["calls"] for k, v in profile["parts"].items()}

    def rate(self):
        """10^9 operations of linears a CPU second of everything."""
        return self.flops / self.cpu / 1e9


def analyze(program, env, folder, tokens=None, mode=None, metrics=("kurtosis",), threads=0, more=()):
    calib = tokens or os.path.join(folder, "tokens.jsonl")
    argv = [program, "analyze", "--model_path", folder, "--calib_dataset", calib, "--progress", "never", "--profile",
            "--format", "json", "--threads", str(threads), "--metrics", *metrics, *more]
    ran = timed(argv + (["--dtype-sim", mode] if mode else []), env)
    return Analysis(ran, tokens_of(calib), linear_work(folder))


def kernels(bench):
    """(peaks by name, [{kind, level, rows, side, gflops, share}]) of tests/bench/kernels.c."""
    peaks, rows = {}, []
    for line in timed([os.path.join(bench, "kernels"), "2048" if QUICK else "4096"]).out.splitlines():
        d = json.loads(line)
        if "peak" in d:
            peaks[d["peak"]] = d["gflops"]
        else:
            rows.append(d)
    return peaks, rows


KIND_OF = {"fp32": "f32", "fast": "bf16", "model": "bf16", "exact": "exact"}  # what multiplies in an arithmetic


def best_rate(rows, mode):
    """The best product of this arithmetic's kind on this machine, GFLOP/s of a CPU second; None: nothing of that kind."""
    rates = [r["gflops"] for r in rows if r["kind"] == KIND_OF.get(mode)]
    return max(rates) if rates else None


def parts_table(page, named):
    """CPU seconds by part: a row a part, a column a run; parts that take nothing anywhere are left out."""
    names = [k for k in next(iter(named.values())) if any(p[k] >= 0.005 for p in named.values())]
    page.line("  %-18s" % "CPU seconds" + "".join("%10s" % n for n in named))
    for k in names:
        page.line("    %-16s" % k + "".join("%10.2f" % p[k] for p in named.values()))
    page.line("    %-16s" % "sum" + "".join("%10.2f" % sum(p.values()) for p in named.values()))
