# Sourced behind tests/tap.sh by tests of several ranks: $mpi is the program with MPI, `ranks N ...` runs it so many times.
mpi=$(dirname "$SLIMSCOPE")/slimscope-mpi
if ! command -v mpirun >/dev/null || ! pkg-config --exists ompi; then
    skip "several ranks" "Open MPI (libopenmpi-dev, openmpi-bin) is not installed"
    finish
fi
${MAKE:-make} -s BUILD="$(dirname "$SLIMSCOPE")" "$mpi" >"$tmp/made" 2>&1 || { not_ok "the program with MPI is built"; cat "$tmp/made"; finish; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
ranks() { n=$1; shift; timeout 120 mpirun -q --oversubscribe -n "$n" "$@"; }

# weights_read FILE: hundredths of a MiB of weights that the ranks read together, by what they told
weights_read() { sed -n 's/^rank.*read \([0-9.]*\) MiB of weights.*/\1/p' "$1" | awk '{ s += $1 } END { printf "%d", 100 * s }'; }

# analyze METRIC NAME NUMBERS...: what one process writes of model $demo and $texts is what so many ranks write
analyze() {
    metric=$1 name=$2; shift 2
    $SLIMSCOPE analyze --model_path $demo --calib_dataset "$texts" --metrics $metric --format json --out "$tmp/one" 2>/dev/null
    for n in "$@"; do
        ranks "$n" "$mpi" analyze --model_path $demo --calib_dataset "$texts" --metrics $metric --format json --out "$tmp/many" 2>"$tmp/err"
        same "$tmp/one" "$tmp/many" "analyze $name on $n ranks"
        rm -f "$tmp/many"
    done
}
