"""Runs a command and sends it a signal when its standard error tells that layer N is done, or a later one (layers that
came together share a line), or has a line with another pattern: interrupt_at.py "layer N"|PATTERN SIGNAL TIMES COMMAND...
Its exit status is the command's (128 + the signal that killed it); prints its standard error."""
import re, signal, subprocess, sys, time

what, sig, times = sys.argv[1], getattr(signal, sys.argv[2]), int(sys.argv[3])
layer = re.fullmatch(r"layer (\d+)", what)


def is_there(line):
    if not layer:
        return re.search(what, line)
    done = re.match(r"layers? (?:\d+ to )?(\d+) of", line)
    return done and int(done.group(1)) >= int(layer.group(1))


p = subprocess.Popen(sys.argv[4:], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
for line in p.stderr:
    sys.stderr.write(line)
    if times and is_there(line):
        for _ in range(times):
            p.send_signal(sig)
            time.sleep(0.01)
        times = 0
code = p.wait()
sys.exit(128 - code if code < 0 else code)
