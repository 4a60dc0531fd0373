#!/bin/sh
# asan: yes
# The workbench on a real terminal (tests/lib/pty_smoke.py).
. tests/tap.sh
PYTHONDONTWRITEBYTECODE=1 python3 tests/lib/pty_smoke.py "$SLIMSCOPE" lab_models/demo "$tmp"
