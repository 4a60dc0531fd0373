"""Runs a command and sends it a signal as soon as a line of its standard error begins with TEXT: interrupt_at.py TEXT
SIGNAL TIMES COMMAND... Its exit status is the command's (128 + the signal that killed it); prints its standard error."""
import signal, subprocess, sys, time

text, sig, times = sys.argv[1], getattr(signal, sys.argv[2]), int(sys.argv[3])
p = subprocess.Popen(sys.argv[4:], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
for line in p.stderr:
    sys.stderr.write(line)
    if times and line.startswith(text):
        for _ in range(times):
            p.send_signal(sig)
            time.sleep(0.01)
        times = 0
code = p.wait()
sys.exit(128 - code if code < 0 else code)
