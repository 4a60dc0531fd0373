#!/usr/bin/env python3
"""Start-up time and key-to-paint latency of the workbench, seen from outside: a pty, keys in, bytes out.

usage: latency.py PROGRAM MODEL [--calib FILE] [--keys N]
Prints two lines: time from exec to the first painted table, and the distribution of key-to-first-byte
times while an analysis keeps every core busy."""
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


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("program")
    ap.add_argument("model")
    ap.add_argument("--calib")
    ap.add_argument("--busy-model", help="model to analyse during the key test (default: MODEL)")
    ap.add_argument("--keys", type=int, default=300)
    a = ap.parse_args()
    paint = first_paint([a.program, a.model])
    print("first paint (exec to table on the demo model)  median %.0f ms, worst of %d: %.0f ms"
          % (paint[len(paint) // 2], len(paint), paint[-1]))
    argv = [a.program, a.busy_model or a.model] + (["--calib_dataset", a.calib] if a.calib else [])
    keys = key_to_paint(argv, a.keys)
    print("key to paint while a job runs on every core    p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms (%d keys)"
          % (keys[len(keys) // 2], keys[len(keys) * 9 // 10], keys[len(keys) * 99 // 100], keys[-1], len(keys)))


main()
