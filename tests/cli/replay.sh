#!/bin/sh
# asan: yes
# A session by keys on a real terminal, and its history replayed without one: the same YAML, byte for byte.
. tests/tap.sh
head -n 4 lab_calib/mix_calib.jsonl >"$tmp/calib.jsonl"
PYTHONDONTWRITEBYTECODE=1 python3 tests/lib/pty_replay.py "$SLIMSCOPE" lab_models/demo "$tmp/calib.jsonl" "$tmp/keys.yaml" "$tmp/keys.slim" \
    >"$tmp/keys.tap"
relay "$tmp/keys.tap"
is 1 "$(grep -c '^export ' "$tmp/keys.slim")" "the history holds the export"
is 1 "$(grep -c '^measure' "$tmp/keys.slim")" "and the measurement"
if grep -q '^undo\|^redo\|o_proj' "$tmp/keys.slim"; then not_ok "undone edits are left out"; else ok "undone edits are left out"; fi
has "$tmp/keys.yaml" "down_proj" "the YAML holds the decision"
has "$tmp/keys.yaml" "measured: KL" "and what was measured"

# again NAME OPTIONS...: the history with its export sent to NAME.yaml
again() {
    to=$1; shift
    sed "s|^export .*|export $tmp/$to.yaml|" "$tmp/keys.slim" >"$tmp/$to.slim"
    exits 0 "replay: $to" "$SLIMSCOPE" --script "$tmp/$to.slim" "$@"
    same "$tmp/keys.yaml" "$tmp/$to.yaml" "replay: $to writes the same bytes"
}
again headless
again screen --ui --size 80x24 --dump-screen "$tmp/screen.txt"
has "$tmp/screen.txt" "down_proj" "the screen was drawn"
again wide --ui --size 200x60 --glyphs ascii --pace 5
again one-thread --threads 1
again two-threads --threads 2
sed "s|^export .*|export $tmp/pty.yaml|" "$tmp/keys.slim" >"$tmp/pty.slim"
echo quit >>"$tmp/pty.slim"
exits 0 "replay on a terminal" env PYTHONDONTWRITEBYTECODE=1 python3 -c '
import os, sys
sys.path.insert(0, "tests/lib")
from pty_term import Program
p = Program(sys.argv[1:], dict(os.environ, TERM="xterm-256color"), limit=300)
try:
    end = p.finish()
    sys.stderr.write(p.shown()[-2000:])
    sys.exit(end != "exit 0")
finally:
    p.close()' "$SLIMSCOPE" --ui --script "$tmp/pty.slim"
same "$tmp/keys.yaml" "$tmp/pty.yaml" "replay on a terminal writes the same bytes"
finish
