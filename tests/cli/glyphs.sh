#!/bin/sh
# asan: yes
# Characters and colours by what the terminal says of itself (tests/lib/pty_glyphs.py).
. tests/tap.sh
PYTHONDONTWRITEBYTECODE=1 python3 tests/lib/pty_glyphs.py "$SLIMSCOPE" lab_models/demo "$tmp"
