#!/bin/sh
# asan: yes
# Random keys into the workbench (tests/lib/random_keys.py SEEDS KEYS KIND...): more of them by hand with other figures.
. tests/tap.sh
PYTHONDONTWRITEBYTECODE=1 python3 tests/lib/random_keys.py "$SLIMSCOPE" lab_models/demo "$tmp" "${KEYS_SEEDS:-1}" "${KEYS_EACH:-800}" demo busy large zh
