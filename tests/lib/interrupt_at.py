"""Runs a command and sends it a signal when its standard error tells that layer N is done, or a later one (layers that
came together share a line): interrupt_at.py "layer N" SIGNAL TIMES COMMAND... Its exit status is the command's (128 + the
signal that killed it); prints its standard error."""
import re, signal, subprocess, sys, time

layer, sig, times = int(sys.argv[1].split()[1]), getattr(signal, sys.argv[2]), int(sys.argv[3])
p = subprocess.Popen(sys.argv[4:], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
for line in p.stderr:
    sys.stderr.write(line)
    done = re.match(r"layers? (?:\d+ to )?(\d+) of", line)
    if times and done and int(done.group(1)) >= layer:
        for _ in range(times):
            p.send_signal(sig)
            time.sleep(0.01)
        times = 0
code = p.wait()
sys.exit(128 - code if code < 0 else code)
