#!/usr/bin/env python3
"""Which characters and colours the workbench uses on terminals that say they are wide, narrow, or nothing. TAP on stdout.

usage: pty_glyphs.py PROGRAM MODEL SCRATCH-FOLDER"""
import os
import re
import sys
import time

from pty_term import Program, Tap, plain

PROGRAM, MODEL, SCRATCH = sys.argv[1:4]
LIMIT = 150 if os.environ.get("SLIMSCOPE_SAN") else 60
ASK, QUESTION = b"\x1b[6n", b"\r\xe2\x94\x80\x1b[6n"
COLOUR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
tap = Tap()


class Terminal(Program):
    """Answers the first question for the cursor's place with these bytes, so many seconds later; None: never."""

    def __init__(self, answer, late=0, *args, config=None, **env):
        self.answer, self.late, self.due, self.asked = answer, late, None, False
        home = os.path.join(SCRATCH, "glyphs-%d" % tap.n)
        all_env = dict(os.environ, TERM="xterm-256color", LC_ALL="C.UTF-8")
        for key in ("NO_COLOR", "TMUX", "LANG", "COLUMNS", "LINES"):
            all_env.pop(key, None)
        for key in ("STATE", "CONFIG", "CACHE"):
            all_env["XDG_%s_HOME" % key] = os.path.join(home, key.lower())
        if config:
            os.makedirs(os.path.join(home, "config", "slimscope"), exist_ok=True)
            with open(os.path.join(home, "config", "slimscope", "rc"), "w") as rc:
                rc.write(config + "\n")
        super().__init__([PROGRAM, MODEL, *args], dict(all_env, **env), 24, 80, limit=LIMIT)

    def pump(self, seconds):
        if self.due is not None and time.monotonic() >= self.due:
            os.write(self.master, self.answer)
            self.due = None
        if self.due is not None:
            seconds = min(seconds, max(0.0, self.due - time.monotonic()))
        came = super().pump(seconds)
        if not self.asked and ASK in self.out and self.answer is not None:
            self.asked, self.due = True, time.monotonic() + self.late
            return self.late > 0 or self.pump(0)
        return came

    def painted(self):
        """Everything but ASCII that was painted, without the question itself."""
        text = self.out.replace(QUESTION, b"").decode("utf-8", "replace")
        return {c for c in text if ord(c) >= 128}

    def leave(self):
        self.keys(":quit!\r")
        return self.finish()


def frames(chars):
    return {c for c in chars if 0x2500 <= ord(c) < 0x2600 or c == "\u2026"}


def braille(chars):
    return {c for c in chars if 0x2800 <= ord(c) < 0x2900}


def narrow(p):
    """a terminal whose ambiguous characters are one cell wide"""
    p.see("\u2502", "\u2500")
    tap.equal("exit 0", p.leave(), "width 1: frames are drawn")


def wide(p):
    """a terminal whose ambiguous characters are two cells wide"""
    p.see("down_proj")
    p.keys("3")
    p.see("Nothing ran")
    p.leave()
    tap.equal(set(), p.painted(), "width 2: only ASCII is painted")


def wide_braille(p):
    """braille asked for on a terminal with wide ambiguous characters"""
    p.see("down_proj")
    p.keys("r")
    p.see("56/56")
    p.leave()
    tap.ok(braille(p.painted()), "width 2 and --glyphs braille: bars are braille, which is never wide")
    tap.equal(set(), frames(p.painted()), "width 2 and --glyphs braille: frames are ASCII")


def silent(p):
    """a terminal that does not answer"""
    p.see("down_proj")
    p.keys("3")
    p.see("Nothing ran")
    p.leave()
    tap.equal(set(), p.painted(), "no answer: only ASCII is painted")


def late(p):
    """an answer that comes late"""
    p.see("down_proj")
    p.see("\u2502", "\u2500")
    p.keys("3")
    p.see("Nothing ran")
    tap.equal("exit 0", p.leave(), "a late answer: frames are drawn, keys work on")
    said = plain(p.out)
    tap.ok("does nothing" not in said and "no key" not in said, "a late answer: no key was pressed by it", said)


def esc(p):
    """Esc where no answer came"""
    p.see("down_proj")
    p.keys("3")
    p.see("Nothing ran")
    p.keys("\x1b")
    p.keys("1")
    p.see("[1 Rank]")
    tap.equal("exit 0", p.leave(), "no answer: Esc and the keys behind it come as they are typed")


def ahead(p):
    """keys typed before the answer"""
    p.see("Nothing ran")
    tap.equal("exit 0", p.leave(), "typed before and behind the answer: no key is lost, a split one neither")


def console(p):
    """TERM=linux"""
    p.see("down_proj")
    p.leave()
    tap.equal(set(), p.painted(), "TERM=linux: only ASCII is painted")


def colours(want, name):
    def look(p):
        p.see("down_proj")
        p.leave()
        tap.equal(want, bool(COLOUR.search(p.out)), name)
    look.__doc__ = name
    return look


AT, FAR = b"\x1b[7;2R", b"\x1b[7;3R"
tap.run(narrow, Terminal(AT))
tap.run(narrow, Terminal(b"\x1b[1;2R"))
tap.run(wide, Terminal(FAR))
tap.run(wide_braille, Terminal(FAR, 0, "--glyphs", "braille"))
tap.run(silent, Terminal(None))
tap.run(late, Terminal(AT, 1.0))
tap.run(late, Terminal(b"\x1b[1;2R", 1.0))
tap.run(esc, Terminal(None))
tap.run(ahead, Terminal(b"\x1bOP" + AT + b"\x1b[Bq3"))
tap.run(ahead, Terminal(b"2" + AT + b"\x1b[A3"))
tap.run(console, Terminal(AT, 0, "--no-mouse", TERM="linux"))
for args, env, config, want, name in (
        ((), {}, None, True, "colours: where nothing is said"),
        ((), {}, "set color=never", False, "colours: the setting is stronger than the terminal"),
        ((), {"NO_COLOR": ""}, "set color=always", True, "colours: an empty NO_COLOR says nothing"),
        ((), {"NO_COLOR": "1"}, "set color=always", False, "colours: NO_COLOR is stronger than the setting"),
        (("--color", "always"), {"NO_COLOR": "1"}, "set color=never", True, "colours: the option is stronger than NO_COLOR"),
        (("--no-color",), {}, "set color=always", False, "colours: the option is stronger than the setting")):
    tap.run(colours(want, name), Terminal(AT, 0, *args, config=config, **env))
tap.finish()
