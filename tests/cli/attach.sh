#!/bin/sh
# A job that one process runs is looked at, and stopped, by another: lines of text and JSON, the screen, the ends there are.
. tests/tap.sh
export SLIMSCOPE_KERNELS=generic # for longer than anybody looks
i=0
while [ $i -lt 40 ]; do cat tests/golden/analysis/_models/calib5.jsonl; i=$((i + 1)); done >"$tmp/big.jsonl"
# run NAME: a job that goes on until it is stopped, begun; its pid in $job
run() {
    "$SLIMSCOPE" analyze --model_path lab_models/demo --calib_dataset "$tmp/big.jsonl" --metrics alone_exact --threads 1 --session "$1" >"$tmp/out.$1" 2>"$tmp/err.$1" &
    job=$!
    n=0
    until "$SLIMSCOPE" attach "$1" --once 2>/dev/null | grep -q '^alone_exact  ' || [ $n -ge 300 ]; do sleep 0.1; n=$((n + 1)); done
}
run one
exits 0 "attach --once" "$SLIMSCOPE" attach --once
is "attached to one, pid $job on $(uname -n): analyze --model_path lab_models/demo" "$(sed -n '1s/ --calib_dataset.*//p' "$tmp/out")" "how far the job is, and whose"
exits 64 "the name is taken" "$SLIMSCOPE" analyze --model_path lab_models/demo --session one
has "$tmp/err" "'slimscope attach one' looks at its job" "and says who has it"

# two at once, of which one is killed: the job and the other go on
: >"$tmp/text"
: >"$tmp/json"
"$SLIMSCOPE" attach one --progress text >"$tmp/text" 2>"$tmp/text.err" &
text=$!
"$SLIMSCOPE" attach one --progress json >"$tmp/json" 2>/dev/null &
json=$!
n=0
until [ "$(wc -l <"$tmp/json")" -ge 2 ] && [ "$(wc -l <"$tmp/text")" -ge 2 ] || [ $n -ge 300 ]; do sleep 0.1; n=$((n + 1)); done
kill -9 $json
python3 - "$tmp/json" "$job" >"$tmp/lines" <<'PY'
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1]) if l.endswith("\n")]
print(lines[0]["t"], lines[0]["session"][:2], lines[0]["pid"] == int(sys.argv[2]), lines[0]["ranks"], lines[1]["t"], lines[1]["state"], lines[1]["title"])
PY
is "hello 20 True 1 job running alone_exact" "$(cat "$tmp/lines")" "lines of JSON"
exits 0 "attach --cancel" "$SLIMSCOPE" attach one --cancel
has "$tmp/out" "alone_exact stopped at" "says what it stopped"
wait $job
is 130 $? "the job ends as behind ^C"
has "$tmp/out.one" "ANALYSIS STOPPED" "and prints what it has"
wait $text
is 130 $? "whoever looks on ends with its exit code"
has "$tmp/text" "alone_exact stopped at" "and with its last line"
exits 64 "nobody has it open any more" "$SLIMSCOPE" attach one
has "$tmp/err" "no process has session one open" "which is said"
exits 65 "a session that is not there" "$SLIMSCOPE" attach nobody
exits 64 "no session is open" "$SLIMSCOPE" attach
has "$tmp/err" "no process has a session open" "and what keeps one is said"
exits 0 "what was kept opens" "$SLIMSCOPE" resume one --no-run --size 80x24 --dump-screen "$tmp/screen"

# a dead one
run two
: >"$tmp/text"
"$SLIMSCOPE" attach two --progress text >"$tmp/text" 2>"$tmp/text.err" &
text=$!
n=0
until [ "$(wc -l <"$tmp/text")" -ge 2 ] || [ $n -ge 300 ]; do sleep 0.1; n=$((n + 1)); done
kill -9 $job
wait $text
is 1 $? "the process dies under whoever looks on"
has "$tmp/text.err" "slimscope: process $job has died: 'slimscope resume two' goes on with the session" "one line"
exits 64 "a socket that was left behind" "$SLIMSCOPE" attach two
has "$tmp/err" "the process that had session two open has died" "is no process"

run three
PYTHONDONTWRITEBYTECODE=1 python3 tests/lib/pty_attach.py "$SLIMSCOPE" three >"$tmp/tap"
relay "$tmp/tap"
exits 64 "TERM=dumb has no screen" env TERM=dumb python3 -c 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.argv[1], "attach", "three"])))' "$SLIMSCOPE"
kill $job 2>/dev/null
wait $job 2>/dev/null

mpi=$(dirname "$SLIMSCOPE")/slimscope-mpi
if command -v mpirun >/dev/null && pkg-config --exists ompi && ${MAKE:-make} -s BUILD="$(dirname "$SLIMSCOPE")" "$mpi" >/dev/null 2>&1; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    one=$SLIMSCOPE SLIMSCOPE="timeout 120 mpirun -q --oversubscribe -n 2 $mpi"
    $SLIMSCOPE analyze --model_path lab_models/demo --calib_dataset "$tmp/big.jsonl" --metrics alone_exact --session ranks >"$tmp/out.ranks" 2>"$tmp/err.ranks" &
    job=$!
    n=0
    until "$one" attach ranks --once 2>/dev/null | grep -q '^alone_exact  ' || [ $n -ge 300 ]; do sleep 0.1; n=$((n + 1)); done
    exits 0 "several ranks" "$one" attach --cancel
    has "$tmp/out" ", 2 ranks: analyze" "are named"
    wait $job
    is 130 $? "all ranks end, as one that is stopped"
    is 1 "$(grep -c '^slimscope: ' "$tmp/err.ranks")" "with one line"
else
    skip "several ranks" "Open MPI is not installed"
fi
finish
