"""The screen of `slimscope attach` on a real terminal: pty_attach.py SLIMSCOPE SESSION. A job runs there, which it stops in the end."""
import os
import re
import signal
import sys

from pty_term import Program, Tap

COLOUR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
exe, name = sys.argv[1:3]
tap = Tap()


def start(**env):
    return Program([exe, "attach", name], dict(os.environ, **{"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **env}))


def looks(p):
    """attached on a terminal"""
    p.see(re.compile(r"attached.*alone_exact"))
    p.keys("x")
    tap.ok(p.see("x: attached: read only"), "keys that would change something say why they don't")
    p.keys("3")
    tap.ok(p.see(re.compile(r"#1 +run +alone_exact")), "the jobs of the other process are there")
    p.keys("1")
    p.see("[1 Rank]")
    p.keys("j")
    p.resize(1, 1)
    p.resize(30, 100)
    tap.ok(p.see(re.compile(r"attached to %s, pid \d+ on .*: analyze alone_exact" % name)), "the line of messages says whose job it is, behind 1x1, too")
    p.keys("q")
    tap.equal("exit 0", p.finish(), "q leaves")
    tap.ok("goes on with it: slimscope attach %s looks at it again" % name in p.shown(), "and says that the job goes on", p.shown())


def killed(p):
    """an attached screen is killed"""
    p.see(re.compile(r"attached.*alone_exact"))
    p.kill(signal.SIGKILL)
    tap.equal("signal 9", p.finish(), "a killed client is gone")


def poor(p):
    """in LANG=C without colours"""
    p.see(re.compile(r"attached.*alone_exact"))
    p.keys("q")
    tap.equal("exit 0", p.finish(), "q leaves there, too")
    tap.equal((None, None), (re.search(rb"[\x80-\xff]", p.out), COLOUR.search(p.out)), "LANG=C and NO_COLOR: ASCII without colours")


def stops(p):
    """the job is stopped"""
    p.see(re.compile(r"attached.*alone_exact"))
    p.keys("\x03")
    p.see("stop the job there?")
    p.keys("n")
    p.see(re.compile(r"attached.*alone_exact"))
    p.keys("\x03")
    p.see("stop the job there?")
    p.keys("y")
    tap.ok(p.see(re.compile(r"stopped at \d+ of \d+.*slimscope resume %s" % name)), "^C asks, then stops it; the line says how it ended and what opens the session")
    p.keys("q")
    tap.equal("exit 0", p.finish(), "q leaves what has ended")


tap.run(looks, start())
tap.run(killed, start())
tap.run(poor, start(LC_ALL="C", LANG="C", NO_COLOR="1"))
tap.run(stops, start())
tap.finish()
