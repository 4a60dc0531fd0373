#!/bin/sh
# Rewrites the golden screens in tests/golden/screens from what the workbench draws now. Read the difference before committing it.
# usage: tests/accept_screens.sh [--record]   (--record: first record the session they are drawn from anew, with the real engine)
cd "$(dirname "$0")/.." || exit 1
make -s build/tests/test_screen build/tests/test_looks build/tests/test_view_jobs || exit 1
export LC_ALL=C.UTF-8
if [ "${1:-}" = --record ]; then
    build/tests/test_screen --record || exit 1
fi
ACCEPT=1 build/tests/test_screen >/dev/null 2>&1
ACCEPT=1 build/tests/test_looks >/dev/null 2>&1
ACCEPT=1 build/tests/test_view_jobs >/dev/null 2>&1
git --no-pager diff --stat -- tests/golden/screens
