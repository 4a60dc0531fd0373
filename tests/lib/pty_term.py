"""A program on a pseudo-terminal, as a person's shell would run it: its own process group in the foreground, stops reported.

Standard library only. Nothing here sleeps to give the program time: `see` waits until what a test asserts is painted."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?<>=]*[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-Za-z]|[=>78MDEHc])")
CTRL_L = b"\x0c"


def plain(data):
    """What was painted, without the bytes that move the cursor or colour: jumps become line breaks or blanks."""
    def instead(match):
        return b"\n" if match.group(1) in (b"H", b"f", b"d") else b" " if match.group(1) in (b"G", b"C") else b""
    return ESCAPES.sub(instead, data).decode("utf-8", "replace")


def every(*patterns):
    """What `see` waits for to have all of these regular expressions on one screen, wherever they stand."""
    return re.compile(r"(?s)\A" + "".join("(?=.*(?-s:%s))" % pattern for pattern in patterns))


def set_size(fd, rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def say(fd, text):
    try:
        os.write(fd, (text + "\n").encode())
    except OSError:
        pass  # the test has gone


def shell(slave, argv, env, orders, reports, stdin):
    """The part of a shell that matters: runs argv in the foreground, takes the terminal back when it stops. Never returns."""
    for sig in (signal.SIGTTOU, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(sig, signal.SIG_IGN)
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    tty = os.open("/dev/tty", os.O_RDWR)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(tty, os.getpid())
        for sig in (signal.SIGTTOU, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(sig, signal.SIG_DFL)
        for fd, to in ((slave if stdin is None else stdin, 0), (slave, 1), (slave, 2)):
            os.dup2(fd, to)
        os.closerange(3, 64)
        try:
            os.execvpe(argv[0], argv, env)
        finally:
            os._exit(127)
    os.close(slave)
    try:
        os.setpgid(child, child)
    except OSError:
        pass  # it has done so itself
    say(reports, "pid %d" % child)
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            try:
                os.tcsetpgrp(tty, os.getpgrp())
            except OSError:
                pass
            say(reports, "stopped %d" % os.WSTOPSIG(status))
            if not os.read(orders, 1):  # fg
                os.killpg(child, signal.SIGKILL)
            else:
                os.tcsetpgrp(tty, child)
                os.killpg(child, signal.SIGCONT)
        else:
            say(reports, "signal %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) else "exit %d" % os.WEXITSTATUS(status))
            os._exit(0)


class Failed(Exception):
    pass


class Program:
    """argv on a new terminal. `end` of a report: "exit N" or "signal N"."""

    def __init__(self, argv, env, rows=24, cols=80, stdin=None, limit=120):
        self.limit, self.out, self.mark, self.said, self.end, self.dry = limit, b"", 0, [], None, False
        self.master, slave = pty.openpty()
        set_size(self.master, rows, cols)
        self.modes = termios.tcgetattr(self.master)
        orders_in, self.orders = os.pipe()
        self.reports, reports_out = os.pipe()
        sys.stdout.flush()
        self.shell_pid = os.fork()
        if self.shell_pid == 0:
            try:
                os.close(self.master)
                os.close(self.orders)
                os.close(self.reports)
                shell(slave, argv, env, orders_in, reports_out, stdin)
            finally:
                os._exit(126)
        os.close(slave)
        os.close(orders_in)
        os.close(reports_out)
        self.pid = int(self.report("pid").split()[1])

    # ---- what it does ----

    def pump(self, seconds):
        """Takes what was painted and reported; False when nothing came in time."""
        fds = [fd for fd in (self.master, self.reports) if fd is not None]
        ready, _, _ = select.select(fds, [], [], seconds)
        if self.reports in ready:
            data = os.read(self.reports, 4096)
            self.said += data.decode().split("\n")[:-1]
            if not data:
                os.close(self.reports)
                self.reports = None
        if self.master in ready:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                data = b""
            self.out += data
            self.dry = not data
            return bool(data)
        return bool(ready)

    def report(self, *kinds):
        """Waits for one of these reports of the shell: pid, stopped, exit, signal."""
        end = time.monotonic() + self.limit
        while True:
            while self.said:
                line = self.said.pop(0)
                if line.split()[0] in ("exit", "signal"):
                    self.end = line
                if line.split()[0] in kinds:
                    return line
            if time.monotonic() > end or self.end or self.reports is None:
                raise Failed("no report '%s' (ended: %s)" % ("' or '".join(kinds), self.end))
            self.pump(0.5)

    def finish(self):
        """Waits until the program ends and gives "exit N" or "signal N"; everything painted is in `out` then."""
        line = self.report("exit", "signal")
        os.waitpid(self.shell_pid, 0)
        self.shell_pid = None
        end = time.monotonic() + self.limit
        while self.master is not None and not self.dry and time.monotonic() < end:
            self.pump(0.5)
        return line

    def shown(self):
        return plain(self.out[self.mark:])

    def see(self, *wants, redraw=True):
        """Waits until one of these is on the screen: painted since the last key, or by a redraw that is asked for now and then. Each is a
        text, a compiled regular expression or a function of what was shown. Gives what was found: the text, the match, the result."""
        def found(want, shown):
            if isinstance(want, str):
                return want if want in shown else None
            return want.search(shown) if isinstance(want, re.Pattern) else want(shown)
        asked = time.monotonic()
        end = asked + self.limit
        while True:
            shown = self.shown()
            for want in wants:
                it = found(want, shown)
                if it:
                    return it
            for line in self.said:
                if line.split()[0] in ("exit", "signal"):
                    raise Failed("it ended (%s) while %r was waited for" % (line, wants[0]))
            if time.monotonic() > end:
                raise Failed("%s was not painted in %d s" % (" or ".join(map(repr, wants)), self.limit))
            self.pump(0.7)
            if redraw and time.monotonic() - asked >= 0.7:  # also where a job's progress is painted all the time
                os.write(self.master, CTRL_L)
                asked = time.monotonic()

    # ---- what is done to it ----

    def fresh(self):
        """What was painted before belongs to what was done before."""
        while self.pump(0):
            pass
        self.mark = len(self.out)

    def keys(self, text):
        self.fresh()
        os.write(self.master, text if isinstance(text, bytes) else text.encode())

    def resize(self, rows, cols):
        self.fresh()
        set_size(self.master, rows, cols)  # the kernel sends SIGWINCH to the foreground group

    def kill(self, sig):
        self.fresh()
        os.kill(self.pid, sig)

    def fg(self):
        self.fresh()
        os.write(self.orders, b"f")

    def hang_up(self):
        os.close(self.master)
        self.master = None

    def close(self):
        """Ends what is left, whatever happened."""
        if self.shell_pid is not None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for fd in (self.orders, self.master, self.reports):
            if fd is not None:
                os.close(fd)
        if self.shell_pid is not None:
            os.waitpid(self.shell_pid, 0)
        self.orders = self.master = self.reports = self.shell_pid = None


class Tap:
    def __init__(self):
        self.n, self.bad = 0, 0

    def ok(self, good, name, why=""):
        self.n += 1
        self.bad += not good
        print("%s %d - %s" % ("ok" if good else "not ok", self.n, name))
        for line in [] if good else str(why).split("\n"):
            print("# " + line)
        sys.stdout.flush()
        return good

    def equal(self, want, got, name):
        return self.ok(want == got, name, "wanted %r\ngot    %r" % (want, got))

    def run(self, what, program):
        """Calls what(program), and tells what the screen showed when it was not what was waited for."""
        try:
            what(program)
        except (Failed, OSError) as e:
            self.ok(False, what.__doc__ or what.__name__, "%s\n%s" % (e, program.shown()[-3000:]))
        finally:
            program.close()

    def finish(self):
        print("1..%d" % self.n)
        sys.exit(self.bad > 0)
