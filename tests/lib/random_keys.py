#!/usr/bin/env python3
"""Random keys, mouse, pastes and sizes into the workbench on a real terminal; the same ones for the same seed. It must end by its own
commands, with exit 0 and the terminal as it was. TAP on stdout.

usage: random_keys.py PROGRAM MODEL SCRATCH-FOLDER SEEDS KEYS-PER-SEED [demo|busy|large|zh...]
    demo   MODEL as it is
    busy   its layers many times over, and an analysis of them runs
    large  the names of 20,000 linears, whose weights take no room on the disk
    zh     MODEL, in Chinese"""
import os
import random
import re
import sys
import termios

import wide_models
from pty_term import Failed, Program, Tap

PROGRAM, MODEL, SCRATCH = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3]
SEEDS, KEYS = int(sys.argv[4]), int(sys.argv[5])
KINDS = sys.argv[6:] or ["demo"]
LIMIT = 300 if os.environ.get("SLIMSCOPE_SAN") else 120
BAD = re.compile(rb"AddressSanitizer|runtime error:|LeakSanitizer")
LETTERS = [c for c in map(chr, range(32, 127)) if c not in "Q"] + ["\r", "\t", "\x7f", "\x02", "\x04", "\x0c", "\x12", "\x15", "\x1b"]
SEQUENCES = ["\x1b[%s" % s for s in ("A", "B", "C", "D", "H", "F", "Z", "1~", "3~", "4~", "5~", "6~", "15~", "17~", "18~", "19~", "20~", "1;5A",
                                      "999999999999m", "?1;2c", "<0;5;5M", "<0;5;5m", "<64;10;10M", "M !!", "200~a b\nc\x1b[201~", "I", "O", "")]
SEQUENCES += ["\x1bOA", "\x1bOP", "\x1bOQ", "\x1b\x1b", "\x1b]0;t\x07", "\xe9", "日本", "e\u0301", "\u202e", "\x1b[M\x01\xff\xff", "\x00", "\x03"]
COMMANDS = ["exclude *down_proj", "include *", "undo", "redo", "filter attn", "filter score>1", "filter", "sort score", "sort name desc", "fold kind",
            "fold none", "analyze kurtosis", "measure", "set max-samples=1", "set threads=1", "tag *q_proj", "show std", "theme mono", "help exclude",
            "history", "cancel", "nosuch", "exclude 'open", "dump-screen x", "export r.yaml!", "recipe nosuch.yaml", "log", "bind K undo", "set lang=zh",
            "rank", "level W8A8 *", "replay 1-2", "open nosuch", "status", "calib nosuch"]
BUSY_TIMES = 8
tap = Tap()


def environment(name):
    env = dict(os.environ, TERM="xterm-256color", LC_ALL="C.UTF-8", OPENBLAS_NUM_THREADS="1")
    for key in ("NO_COLOR", "TMUX", "LANG", "COLUMNS", "LINES"):
        env.pop(key, None)
    for key in ("STATE", "CONFIG", "CACHE"):
        env["XDG_%s_HOME" % key] = os.path.join(SCRATCH, name, key.lower())
    return env


def some_keys(r):
    kind = r.random()
    if kind < 0.6:
        return "".join(r.choice(LETTERS) for _ in range(r.randint(1, 6)))
    if kind < 0.8:
        return r.choice(SEQUENCES)
    return "\x1b\x1b:" + r.choice(COMMANDS) + "\r"


def play(p, r, keys):
    sent = 0
    while sent < keys and p.end is None:
        text = some_keys(r)
        sent += len(text)
        os.write(p.master, text.encode("utf-8", "surrogateescape"))
        if r.random() < 0.05:
            p.resize(*r.choice([(24, 80), (30, 100), (60, 200), (15, 60), (1, 1), (2, 300), (100, 3)]))
        while p.pump(0.005):
            pass
        if any(line.startswith("stopped") for line in p.said):
            p.said = [line for line in p.said if not line.startswith("stopped")]
            p.fg()
        if any(line.split()[0] in ("exit", "signal") for line in p.said):
            return


def leave(p):
    """Out of whatever is open, then quit."""
    p.resize(24, 80)
    for text in ("\x1b[201~", "\x1b\x1b", "\x03", "n", "\x1b\x1b"):
        if p.master is not None:
            os.write(p.master, text.encode())
        while p.pump(0.3):
            pass
    os.write(p.master, b"\x1b\x1b:quit!\r")


def started(kind):
    """The program's words, and what is typed before the first key."""
    if kind in ("busy", "large"):
        folder = os.path.join(SCRATCH, kind)
        if not os.path.exists(folder):
            wide_models.write_model(MODEL, folder, *(wide_models.repeated(MODEL, BUSY_TIMES) if kind == "busy" else wide_models.large(MODEL, 20000)))
        return [PROGRAM, folder, "--mouse"], ":set threads=1\r:analyze kurtosis local_error\r" if kind == "busy" else ""
    return [PROGRAM, MODEL, "--mouse"] + (["--lang", "zh"] if kind == "zh" else []), ""


def count(kind):
    """Each key takes longer where there is more to paint, to sort and to compute."""
    return KEYS // 8 if kind == "large" else KEYS


def one(kind, seed):
    r = random.Random("%s %d" % (kind, seed))
    name = "%s-keys%d" % (kind, seed)
    argv, first = started(kind)
    os.makedirs(os.path.join(SCRATCH, name), exist_ok=True)
    os.chdir(os.path.join(SCRATCH, name))
    left = count(kind)
    starts = 0
    while left > 0 and starts < 20:
        starts += 1
        p = Program(argv, environment(name), 24, 80, limit=LIMIT)
        try:
            os.write(p.master, first.encode())
            before = left
            play(p, r, left)
            left = 0 if not p.said else before - 200
            if not any(line.split()[0] in ("exit", "signal") for line in p.said):
                leave(p)
            end = p.finish()
            good = end == "exit 0" and not BAD.search(p.out) and termios.tcgetattr(p.master) == p.modes
            good = good and p.out.rfind(b"\x1b[?1049l") > p.out.rfind(b"\x1b[?1049h")
            if not good:
                return "%s; %s" % (end, p.out[-1500:].decode("utf-8", "replace"))
        except Failed as e:
            return "%s; %r" % (e, p.shown()[-1500:])
        finally:
            p.close()
    return ""


for kind in KINDS:
    for seed in range(1, SEEDS + 1):
        why = one(kind, seed)
        tap.ok(not why, "random keys, %s, seed %d: %d keys" % (kind, seed, count(kind)), why)
tap.finish()
