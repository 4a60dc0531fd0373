#!/usr/bin/env python3
"""Does a session by keys on a real terminal and keeps its history. TAP on stdout.

usage: pty_replay.py PROGRAM MODEL CALIBRATION OUT.yaml OUT.slim [THREADS]"""
import os
import re
import sys

from pty_term import Program, Tap

PROGRAM, MODEL, CALIB, YAML, SCRIPT = sys.argv[1:6]
tap = Tap()
env = dict(os.environ, TERM="xterm-256color", LC_ALL="C.UTF-8")
for key in ("COLUMNS", "LINES", "NO_COLOR", "TMUX"):
    env.pop(key, None)


def session(p):
    """rank, exclude, measure, undo and export by keys"""
    p.see("down_proj")
    p.keys("r")
    p.see("56/56")
    p.keys(".")
    p.keys("g")
    p.see(re.compile(r"> +1 +model\.layers\.6\.mlp\.down_proj +\d"))
    tap.ok(True, "r ranks")
    p.keys("x")
    p.see("float 1/56")
    tap.ok(True, "x sends the first row to float")
    p.keys("p*.1.mlp.down_proj")
    p.see("1 hit, 1 new")
    p.keys("\r")
    p.see("float 2/56")
    tap.ok(True, "p sends layers to float by a pattern, with its hits while one types")
    p.keys("jjjjx")
    p.see("float 5/56")
    tap.ok(True, "x on one of q, k, v moves the three together")
    p.keys("x")
    p.see("float 2/56")
    tap.ok(True, "and x brings them back together")
    p.keys("u")
    p.see("float 5/56")
    p.keys("\x12")
    p.see("float 2/56")
    tap.ok(True, "u and ^R undo and redo the group")
    p.keys("\x1b[15~")
    p.see("measured: KL")
    tap.ok(True, "F5 measures")
    p.keys("p*.2.self_attn.o_proj\r")
    p.see("float 3/56")
    p.keys("u")
    p.see("float 2/56")
    tap.ok(True, "u takes an edit back")
    p.keys("w")
    p.see("5 Export]")
    p.keys("w")
    p.see("best.yaml")
    p.keys(YAML + "\r")
    p.see("written: ")
    tap.ok(os.path.exists(YAML), "w writes the YAML")
    p.keys(":history --save " + SCRIPT + "\r")
    p.see("written: ")
    p.keys(":quit!\r")  # later passes of the analysis may be under way
    tap.equal("exit 0", p.finish(), "it quits")
    tap.ok(os.path.exists(SCRIPT), "the history is saved")


tap.run(session, Program([PROGRAM, MODEL, "--calib_dataset", CALIB, *(["--threads", sys.argv[6]] if len(sys.argv) > 6 else [])], env, 24, 80,
                         limit=400 if os.environ.get("SLIMSCOPE_SAN") else 60))
tap.finish()
