#!/usr/bin/env python3
"""Start-up time and key-to-paint latency of the workbench, seen from outside: a pty, keys in, bytes out.

usage: latency.py PROGRAM MODEL [--calib FILE] [--keys N]
Prints the time from exec to the first painted table, and the distribution of key-to-first-byte times while an analysis
keeps every core busy; with --many N the same on a model of N small linears, and the processor time that each of some keys
takes of the thread that paints."""
import argparse
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import tempfile
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import wide_models  # noqa: E402


def spawn(argv, env, rows=30, cols=100):
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))  # before the program can ask
        os.execvpe(argv[0], argv, env)
    return pid, fd


def drain(fd, quiet, limit):
    """Reads until nothing came for `quiet` seconds or `limit` seconds passed; gives what came."""
    out, end = b"", time.monotonic() + limit
    while time.monotonic() < end:
        ready, _, _ = select.select([fd], [], [], quiet)
        if not ready:
            break
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            break
        if not chunk:
            break
        out += chunk
    return out


def wait_for(fd, texts, limit):
    """Reads until one of the texts was painted; gives when, and whether it was. Answers the question where the cursor is, as terminals do."""
    out, asked, end = b"", 0, time.monotonic() + limit
    while not any(t in out for t in texts) and time.monotonic() < end:
        ready, _, _ = select.select([fd], [], [], 0.5)
        if ready:
            try:
                out += os.read(fd, 65536)
            except OSError:
                break
        while out.count(b"\x1b[6n") > asked:
            asked += 1
            os.write(fd, b"\x1b[1;2R")
    return time.monotonic(), any(t in out for t in texts)


def environment(state):
    env = dict(os.environ, TERM="xterm-256color", LC_ALL="C.UTF-8", XDG_STATE_HOME=state, XDG_CONFIG_HOME=state,
               XDG_CACHE_HOME=state)
    env.pop("NO_COLOR", None)
    return env


def stop(pid, fd):
    os.kill(pid, signal.SIGTERM)
    drain(fd, 0.2, 3)
    os.close(fd)
    os.waitpid(pid, 0)


def first_paint(argv, runs=9):
    times = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as state:
            t0 = time.monotonic()
            pid, fd = spawn(argv, environment(state))
            t1, seen = wait_for(fd, [b"down_proj"], 20)
            if not seen:
                sys.exit("latency: no table was painted")
            times.append((t1 - t0) * 1e3)
            stop(pid, fd)
    times.sort()
    return times


MARK = b">"  # what stands before the row of the cursor, in every glyph set


def key_to_paint(argv, keys):
    times = []
    with tempfile.TemporaryDirectory() as state:
        pid, fd = spawn(argv, environment(state))
        wait_for(fd, [b"down_proj"], 20)
        drain(fd, 0.3, 2)
        os.write(fd, b"r")
        if not wait_for(fd, [b"0/8", b"0/28", b"runs; you can go on"], 20)[1]:
            sys.exit("latency: the job did not start")
        time.sleep(1.0)
        for i in range(keys):
            drain(fd, 0.01, 0.2)
            t0 = time.monotonic()
            os.write(fd, b"j" if i % 20 < 10 else b"k")
            t1, seen = wait_for(fd, [MARK], 5)
            if not seen:
                sys.exit("latency: a key was not answered")
            times.append((t1 - t0) * 1e3)
            time.sleep(0.02)
        stop(pid, fd)
    times.sort()
    return times


def own_time(pid):
    """Milliseconds of processor time of the thread that paints."""
    with open("/proc/%d/task/%d/schedstat" % (pid, pid)) as f:
        return int(f.read().split()[0]) / 1e6


KEYS = (("j", ["j"] * 40), ("PgDn", ["\x1b[6~"] * 20), ("screens", list("2131415161718181")), ("m", ["m"] * 10), ("x u", ["x", "u"] * 5),
        ("sort", [">"] * 5), ("fold", ["f"] * 5), ("filter", ["\\"] + list("attn") + ["\x1b"]), ("find", ["/"] + list("down") + ["\x1b"]),
        ("pattern", ["p"] + list("*.3.*") + ["\x1b"]), ("command", [":"] + list("exclude m") + ["\x1b"]), ("help", ["?", "j", "q"] * 3))


def costs(argv):
    """What keys cost beside a job that runs: the mean and the most of each kind, in milliseconds."""
    out = []
    with tempfile.TemporaryDirectory() as state:
        pid, fd = spawn(argv, environment(state))
        wait_for(fd, [b"down_proj"], 60)
        os.write(fd, b":analyze kurtosis\r")
        time.sleep(1.0)
        for name, keys in KEYS:
            each = []
            for key in keys:
                drain(fd, 0.02, 0.3)
                t0 = own_time(pid)
                os.write(fd, key.encode())
                drain(fd, 0.03, 0.3)
                each.append(own_time(pid) - t0)
            out.append("%s %.1f/%.1f" % (name, sum(each) / len(each), max(each)))
        stop(pid, fd)
    return out


def many(program, model, linears, keys):
    with tempfile.TemporaryDirectory() as folder:
        wide_models.write_model(model, folder, *wide_models.large(model, linears))
        paint = first_paint([program, folder], 3)
        print("first paint with %d linears  median %.0f ms" % (linears, paint[len(paint) // 2]))
        times = key_to_paint([program, folder], keys)
        print("key to paint with %d linears  p50 %.1f ms, p99 %.1f ms (%d keys)"
              % (linears, times[len(times) // 2], times[len(times) * 99 // 100], len(times)))
        print("  processor time of a key there, mean/most in ms: " + ", ".join(costs([program, folder])))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("program")
    ap.add_argument("model")
    ap.add_argument("--calib")
    ap.add_argument("--busy-model", help="model to analyse during the key test (default: MODEL)")
    ap.add_argument("--keys", type=int, default=300)
    ap.add_argument("--many", type=int, help="also on a model of so many linears")
    a = ap.parse_args()
    paint = first_paint([a.program, a.model])
    print("first paint (exec to table on the demo model)  median %.0f ms, worst of %d: %.0f ms"
          % (paint[len(paint) // 2], len(paint), paint[-1]))
    argv = [a.program, a.busy_model or a.model] + (["--calib_dataset", a.calib] if a.calib else [])
    keys = key_to_paint(argv, a.keys)
    print("key to paint while a job runs on every core    p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms (%d keys)"
          % (keys[len(keys) // 2], keys[len(keys) * 9 // 10], keys[len(keys) * 99 // 100], keys[-1], len(keys)))
    if a.many:
        many(a.program, a.model, a.many, a.keys)


main()
