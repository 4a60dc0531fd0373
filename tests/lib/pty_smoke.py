#!/usr/bin/env python3
"""The workbench on a real terminal: start, resize, suspend, signals, kill -9 and resume, poor terminals. TAP on stdout.

usage: pty_smoke.py PROGRAM MODEL SCRATCH-FOLDER"""
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time

from pty_term import Program, Tap, every, plain, set_size

PROGRAM, MODEL, SCRATCH = sys.argv[1:4]
LIMIT = 150 if os.environ.get("SLIMSCOPE_SAN") else 60
tap = Tap()
COLOUR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")


def environment(name, **more):
    env = dict(os.environ, TERM="xterm-256color", LC_ALL="C.UTF-8")
    for key in ("NO_COLOR", "TMUX", "LANG", "COLUMNS", "LINES"):
        env.pop(key, None)
    for key in ("STATE", "CONFIG", "CACHE"):
        env["XDG_%s_HOME" % key] = os.path.join(SCRATCH, name, key.lower())
    for key, value in more.items():
        env.pop(key, None)
        if value is not None:
            env[key] = value
    return env


def start(name, *args, rows=24, cols=80, **env):
    return Program([PROGRAM, MODEL, *args], environment(name, **env), rows, cols, limit=LIMIT)


def left_well(p, name):
    """The terminal is as it was before: its modes, the normal screen, the cursor."""
    if p.shell_pid is not None:  # it has stopped: what it painted may still be on its way
        p.see(lambda _: b"\x1b[?2004l" in p.out[p.mark:] and b"\x1b[?1049l" in p.out[p.mark:], redraw=False)
    out = p.out
    tap.ok(out.rfind(b"\x1b[?1049l") > out.rfind(b"\x1b[?1049h"), name + ": the alternate screen is left")
    tap.ok(out.rfind(b"\x1b[?25h") >= out.rfind(b"\x1b[?25l"), name + ": the cursor is shown")
    tap.ok(out.rfind(b"\x1b[?2004l") > out.rfind(b"\x1b[?2004h"), name + ": bracketed paste is off")
    if p.master is not None:
        tap.equal(p.modes, termios.tcgetattr(p.master), name + ": the terminal's modes are back")


def life(p):
    """start, resize, suspend, run, quit"""
    p.see(every("down_proj", "layer", "Rank"))
    tap.ok(True, "the first paint shows the table")
    tap.ok(not termios.tcgetattr(p.master)[3] & termios.ICANON, "the terminal gives single keys")
    for rows, cols, want in ((30, 100, "down_proj"), (15, 60, "proj"), (1, 1, None), (24, 80, "down_proj"), (3, 300, None), (50, 200, "down_proj"),
                             (24, 80, "down_proj")):
        p.resize(rows, cols)
        if want:
            p.see(want)
        tap.ok(p.end is None, "it lives at %dx%d" % (cols, rows))
    for _ in range(100):
        p.resize(24, 80)
        p.resize(30, 100)
    p.see("down_proj")
    tap.ok(True, "a storm of sizes")
    for i in range(12):  # curses must not swallow a stop that comes while it paints
        for _ in range(50):
            p.resize(24, 80)
            p.resize(30, 100)
        p.kill(signal.SIGTSTP)
        p.report("stopped")
        p.fg()
        p.see("down_proj", redraw=False)
    tap.ok(True, "SIGTSTP in a storm of sizes stops it every time")
    for how in ("key", "signal"):
        if how == "key":
            p.keys("\x1a")
        else:
            p.kill(signal.SIGTSTP)
        tap.equal("stopped %d" % signal.SIGTSTP, p.report("stopped", "exit", "signal"), "it stops by " + how)
        left_well(p, "stopped by " + how)
        p.fg()
        p.see("down_proj", redraw=False)
        tap.ok(b"\x1b[?1049h" in p.out[p.mark:], "SIGCONT after the %s: the screen is back" % how)
        tap.ok(not termios.tcgetattr(p.master)[3] & termios.ICANON, "SIGCONT after the %s: single keys again" % how)
    p.keys("r")
    p.see("56/56")
    p.keys("g")
    p.see(re.compile(r"layers\.\S*down_proj\s+\d\.\d+e[+-]?\d"))
    tap.ok(True, "scores stand in the rows")
    p.keys("q")
    p.see(re.compile("[Qq]uit\\?"))
    p.keys("nG")
    p.see("row 56 of 56")
    p.keys("q")
    p.see(re.compile("[Qq]uit\\?"))
    p.keys("y")
    tap.equal("exit 0", p.finish(), "q, y: ends with 0")
    left_well(p, "after q")


def slow_line(p):
    """copies while the window is dragged and nobody reads"""
    p.see("down_proj")
    p.keys("5")
    p.see("5 Export]")
    os.write(p.master, b"y" * 150)  # what is copied fills the line; signals come while its rest waits
    for i in range(60):
        set_size(p.master, 24 + i % 3, 80 + i % 5)
        time.sleep(0.01)
    p.see("copied")
    p.keys("Q")
    tap.equal("exit 0", p.finish(), "a slow line: it ends with 0")
    begun, whole = p.out.count(b"\x1b]52;c;"), len(re.findall(rb"\x1b\]52;c;[A-Za-z0-9+/]*=*\x07", p.out))
    tap.ok(begun > 10, "a slow line: there were copies", begun)
    tap.equal(begun, whole, "a slow line: each copy is whole")


def mouse(p):
    """the mouse, as terminals send it today (SGR, 1006)"""
    p.see("down_proj")
    tap.ok(b"\x1b[?1006;1000h" in p.out or b"\x1b[?1006h" in p.out, "the mouse: SGR coordinates are asked for", p.out[:300])

    def press(button, x, y, apart=True):
        os.write(p.master, b"\x1b[<%d;%d;%dM" % (button, x, y))
        if button == 0 and apart:
            time.sleep(0.1)  # as a hand does
        if button < 32:
            os.write(p.master, b"\x1b[<%d;%d;%dm" % (button, x, y))

    def cursor_on(name, test):  # on another row than before
        p.see(re.compile(r">\s+\?\s+" + re.escape(name)))
        tap.ok(True, "the mouse: " + test)
    press(0, 30, 9)
    cursor_on("model.layers.0.mlp.up_proj", "a click moves to its row")
    p.fresh()
    os.write(p.master, b"\x1b[<0;30;9M\x1b[<32;30;11M\x1b[<32;30;12M\x1b[<0;30;12m")
    press(0, 300, 9)
    press(65, 30, 9)
    cursor_on("model.layers.1.self_attn.k_proj", "dragging, and a click beside the screen, do nothing; the wheel moves three rows")
    p.fresh()
    press(64, 30, 9)
    cursor_on("model.layers.0.mlp.up_proj", "and back")
    press(0, 20, 3)
    p.see("layer ^")
    press(0, 20, 3, apart=False)
    p.see("layer v")
    tap.ok(True, "the mouse: a heading sorts, again turns round")
    press(0, 11, 2)
    p.see("What-if]")
    tap.ok(True, "the mouse: a tab opens its screen")
    p.fresh()
    press(0, 3, 24)
    top = int(p.see(re.compile(r"Keys on What-if\s+1-(\d+) of"))[1])
    tap.ok(True, "the mouse: a key of the last line is pressed")
    for _ in range(top):
        press(65, 30, 9)
    p.see(re.compile(r"Keys on What-if\s+(?!1-)\d+-\d+ of"))
    tap.ok(True, "the mouse: the wheel scrolls what it opened")
    p.keys("qQ")
    tap.equal("exit 0", p.finish(), "the mouse: it ends with 0")
    left_well(p, "the mouse")


def lost_end(p):
    """a paste whose end got lost"""
    p.see("r scores all layers; ? explains keys")
    os.write(p.master, b"\x1b[200~model.layers.0.mlp")
    p.see("tag: model.layers.0.mlp", redraw=False)  # a redraw would be part of the paste
    tap.ok(True, "a second of silence ends a paste, its text stands in the line")
    p.keys("\x1b")
    os.write(p.master, b"\x1b[200~hello")
    time.sleep(0.3)  # the signal is to come behind it, within the second
    p.kill(signal.SIGINT)
    p.see("is dropped", redraw=False)
    p.keys("Q")
    tap.equal("exit 0", p.finish(), "^C ends a paste, and keys are keys again")


def texts(path, times=1):
    """A calibration set that keeps a job running for a while, also where the program is sanitized and slow; so many times as long."""
    with open("lab_calib/mix_calib.jsonl") as f:
        lines = f.readlines()
    with open(path, "w") as f:
        f.writelines((lines[:len(lines) // 4] if os.environ.get("SLIMSCOPE_SAN") else lines) * times)
    return path


def running(p):
    """Starts the analysis and waits for its third layer. Gives the layers done."""
    p.see("down_proj")
    p.keys(":analyze kurtosis local_error\r")
    p.see("runs; you can go on")
    p.keys("3")
    return int(p.see(re.compile(r"\b([3-7])/8\s"))[1])


def interrupted(p):
    """^C: where nothing runs, once and twice while an analysis runs"""
    p.see("down_proj")
    p.keys("\x03")
    p.see("nothing runs; Q or F10 quits")
    p.keys("\x03\x03")
    p.see("nothing runs; Q or F10 quits")
    p.keys("j")
    p.see(re.compile(r">\s+\?\s+model\.layers\.0\.self_attn\.k_proj"))
    tap.ok(True, "^C where nothing runs says how to leave, and stays")
    for stops in (1, 2):
        p.keys(":analyze kurtosis local_error\r3" if stops == 1 else "r")
        done = int(p.see(re.compile(r"#%d\s+run(?s:.{0,200}?)\b([1-7])/8\s" % stops))[1])
        p.keys("\x03")
        if p.see("stops after this tile, finished rows are kept; again: at once", "has stopped; once more stops #").startswith("has"):
            p.keys("\x03")  # it came within two seconds of the one that stopped the job before
            p.see("stops after this tile, finished rows are kept; again: at once")
        if stops == 2:
            p.keys("\x03")  # the tile may have ended before
            p.see(":cancel 2 --now", "nothing runs; Q or F10 quits", "once more stops #")
        p.see(re.compile(r"STOP[^#]*?\b[1-7]/8\s[^#]*?r goes on"))
        p.keys("1")
        rows = int(p.see(re.compile(r"\b(\d+)/56 scored"))[1])
        tap.ok(done * 7 <= rows < 56, "^C %s: the analysis stops, its rows are kept" % ("once" if stops == 1 else "twice"), (done, rows))
        p.keys("3")
        p.see("3 Jobs]")
    p.keys("\x03")
    p.see("nothing runs; Q or F10 quits")
    p.keys("Q")
    tap.equal("exit 0", p.finish(), "^C: Q leaves")
    left_well(p, "^C")


def headless(name, *args):
    return subprocess.run([PROGRAM, *args], env=environment(name), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=LIMIT, text=True)


def resumed(name, done, whole):
    """Finishes the session without a terminal: it goes on where it was, and the ranking is that of an undisturbed run."""
    r = headless(name, "resume", "--headless", "--progress", "json")
    tap.ok(r.returncode == 0, name + ": resume --headless finishes", r.stderr[-2000:])
    steps = [json.loads(line) for line in r.stderr.split("\n") if line.startswith("{")]
    told = re.search(r"stopped at layer (\d+) of 8", r.stderr)
    first = int(told.group(1)) if told else -1
    tap.ok(done - 1 <= first <= 8, name + ": at most one layer is lost (%d done, goes on from %d)" % (done, first), r.stderr[-2000:])
    tap.ok(all(s["done"] >= first for s in steps), name + ": no finished layer runs again", steps[:3])
    tap.equal(whole, r.stdout, name + ": the ranking is the undisturbed one")


def kills():
    calib = texts(os.path.join(SCRATCH, "calib.jsonl"))
    long = texts(os.path.join(SCRATCH, "long.jsonl"), 8)  # a person's ^C comes in its midst, however slow the machine
    tap.run(interrupted, start("interrupted", "--calib_dataset", long, "--threads", "1", cols=120))
    script = os.path.join(SCRATCH, "whole.slim")
    with open(script, "w") as f:
        f.write("open %s\ncalib %s\nset threads=1\nasync analyze kurtosis local_error\nwait\nrank kurtosis --topk 15\n" % (MODEL, calib))
    whole = headless("whole", "--script", script).stdout
    for sig in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP):
        name = signal.Signals(sig).name

        def killed(p):
            done = running(p)
            p.kill(sig)
            end = p.finish()
            if sig == signal.SIGKILL:
                tap.equal("signal 9", end, name + ": it is gone in the middle of an analysis")
            else:
                tap.equal("exit 0", end, name + ": it ends cleanly in the middle of an analysis")
                left_well(p, name)
            resumed(name, done, whole)
        killed.__doc__ = name + " in the middle of an analysis, then resume"
        tap.run(killed, start(name, "--calib_dataset", calib, "--threads", "1"))

    def detached(p):
        """a quit that lets the jobs go on"""
        running(p)
        p.keys("Q")
        p.see("let it go on without a screen")
        p.keys("d")
        tap.equal("exit 0", p.finish(), "detached: the workbench ends")
        tap.ok("its jobs go on without a screen" in plain(p.out), "detached: a line says so")
        left_well(p, "detached")
        end, folder, text = time.time() + LIMIT, os.path.join(SCRATCH, "detached", "state", "slimscope", "sessions"), ""
        while whole not in text and time.time() < end:
            time.sleep(0.2)
            with open(os.path.join(folder, os.listdir(folder)[0], "detached")) as f:
                text = f.read()
        tap.ok(whole in text, "detached: the ranking is the undisturbed one", text[-2000:])
    tap.run(detached, start("detached", "--calib_dataset", calib, "--threads", "1"))

    def closed(p):
        """a closed terminal"""
        done = running(p)
        p.hang_up()
        tap.ok(p.finish().startswith("exit"), "a closed terminal ends it")
        resumed("closed", done, whole)
    tap.run(closed, start("closed", "--calib_dataset", calib, "--threads", "1"))


def poor_terminals():
    def no_colour(p):
        """NO_COLOR"""
        p.see("down_proj")
        p.keys("x")
        p.see("float 3/56")
        p.keys("2")
        p.see("2 What-if]")
        p.keys("Q")
        p.finish()
        tap.equal([], COLOUR.findall(p.out)[:5], "NO_COLOR: no colour is sent")
    tap.run(no_colour, start("nocolor", NO_COLOR="1"))

    def ascii_only(p):
        """LC_ALL=C"""
        p.see("down_proj")
        for keys, want in (("\r", "Enter|F1"), ("?", "Keys on"), ("q2", "2 What-if\\]"), ("3", "3 Jobs\\]"), ("5", "5 Export\\]"), ("1", "1 Rank\\]")):
            p.keys(keys)
            p.see(re.compile(want))
        p.keys("Q")
        p.finish()
        tap.equal([], [hex(b) for b in p.out if b >= 128][:5], "LC_ALL=C: only ASCII is painted")
    tap.run(ascii_only, start("ascii", LC_ALL="C"))

    def coloured(p):
        """colours"""
        p.see("down_proj")
        p.keys("Q")
        p.finish()
        tap.ok(COLOUR.search(p.out), "colours are sent where nothing forbids them")
    tap.run(coloured, start("color"))

    for term in ("linux", "vt100", "screen-256color"):
        def named(p):
            p.see("down_proj")
            p.keys("Q")
            tap.equal("exit 0", p.finish(), "TERM=%s: painted and left" % term)
        named.__doc__ = "TERM=" + term
        # on a Linux console ncurses loads libgpm for the mouse, which leaks its console's name
        tap.run(named, start("term-" + term, *(["--no-mouse"] if term == "linux" else []), TERM=term))

    def console(p):
        """TERM=linux"""
        p.see("down_proj")
        p.keys("r")
        p.see("56/56")
        p.keys("\r")
        p.see(re.compile("input|INPUT"))
        p.keys(":quit!\r")  # later passes of the analysis may be under way
        p.finish()
        braille = [c for c in p.out.decode("utf-8", "replace") if 0x2800 <= ord(c) < 0x2900]
        tap.equal([], braille[:5], "TERM=linux: no braille, which its font lacks")
    tap.run(console, start("console", "--no-mouse", TERM="linux"))

    def no_locale(p):
        """a locale that isn't installed"""
        p.see("no locale 'xx_YY.UTF-8' here")
        p.keys("jQ")
        tap.equal("exit 0", p.finish(), "a locale that isn't installed is told")
    tap.run(no_locale, start("nolocale", LC_ALL="xx_YY.UTF-8"))

    for term, text in (("dumb", "'slimscope analyze'"), ("no-such-terminal", "'no-such-terminal' is unknown"), (None, "unknown")):
        def refused(p):
            name = "TERM=%s" % term
            tap.equal("exit 64", p.finish(), name + ": exit 64")
            shown = plain(p.out[p.out.rfind(b"\x1b[K") + 1:]).replace("\r", "").replace("[K", "")  # the probe for wide characters wipes its line
            lines = [line for line in shown.split("\n") if line.strip()]
            tap.ok(len(lines) == 1 and lines[0].startswith("slimscope: ") and text in lines[0], name + ": one line tells why", lines)
            tap.equal(p.modes, termios.tcgetattr(p.master), name + ": the terminal's modes are untouched")
        refused.__doc__ = "TERM=%s" % term
        tap.run(refused, start("refused", TERM=term))

    def no_input(p):
        """standard input is no terminal"""
        tap.equal("exit 64", p.finish(), "input from elsewhere: exit 64")
        tap.ok("standard input is none" in p.shown() and "--script -" in p.shown(), "input from elsewhere: a hint", p.shown())
        tap.ok(b"\x1b[?1049h" not in p.out, "input from elsewhere: no screen is opened")
    null = os.open("/dev/null", os.O_RDONLY)
    tap.run(no_input, Program([PROGRAM, "--ui", MODEL], environment("noinput"), stdin=null, limit=LIMIT))
    os.close(null)


tap.run(life, start("life"))
tap.run(slow_line, start("slow"))
tap.run(lost_end, start("paste"))
tap.run(mouse, start("mouse", "--mouse"))
kills()
poor_terminals()
tap.finish()
