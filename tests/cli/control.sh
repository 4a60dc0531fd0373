#!/bin/sh
# Names of a foreign model, data set or folder that hold what a terminal obeys: none of it reaches the terminal.
. tests/tap.sh
m=$(python3 tests/lib/evil_names.py tests/golden/analysis/_models/llama-fp32 "$tmp/evil") || exit 1
set_=$(ls "$m"/*.jsonl)
yaml=lab_practice/default/default-w8a8-dynamic.yaml
[ -f "$yaml" ] || { echo "no $yaml"; exit 1; }
# clean LABEL COMMAND...: runs it, whatever comes of it, and looks at what it printed
clean() {
    label=$1; shift
    "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    if [ ! -s "$tmp/out" ] && [ ! -s "$tmp/err" ]; then
        not_ok "$label: says something"
    elif python3 tests/lib/evil_names.py --scan "$tmp/out" "$tmp/err" >"$tmp/found"; then
        ok "$label"
    else
        not_ok "$label"
        sed 's/^/# /' "$tmp/found"
    fi
}
s() { "$SLIMSCOPE" "$@"; }
clean check s check "$m"
grep -q 'bad  *e?' "$tmp/out" && ok "check names the tensor" || not_ok "check names the tensor"
clean "check as JSON" s check "$m" --format json
has "$tmp/out" '\u001b]0;x\u0007' "JSON keeps the name, escaped"
has "$tmp/out" '\u009b' "C1, too"
has "$tmp/out" '\u202e' "and what turns the direction"
clean info s info "$m"
clean "info as JSON" s info "$m" --format json
clean analyze s analyze --model_path "$m" --calib_dataset "$set_"
clean "analyze as JSON" s analyze --model_path "$m" --calib_dataset "$set_" --format json
clean "analyze as YAML" s analyze --model_path "$m" --calib_dataset "$set_" --format yaml
clean measure s measure --model_path "$m" --calib_dataset "$set_" --eval "$set_"
clean "quant, dry run" s quant --model_path "$m" --config_path "$yaml" --save_path "$m/out" --dry-run
clean quant s quant --model_path "$m" --config_path "$yaml" --save_path "$m/out"
clean "no such model" s analyze --model_path "$m/nosuch"
clean "no such command" s "$(basename "$m")"
cat >"$tmp/a.slim" <<END
open '$m'
calib '$set_'
exclude *.0.mlp.down_proj
analyze kurtosis
status
history
export '$m/x.yaml'
nosuch '$m'
END
clean script s --script "$tmp/a.slim"
clean shell sh -c '"$SLIMSCOPE" shell <"$1"' - "$tmp/a.slim"
clean "the workbench's screen" sh -c '"$SLIMSCOPE" --ui --size 100x30 --script "$1" --dump-screen "$2"; cat "$2"' - "$tmp/a.slim" "$tmp/screen"
clean "sessions" s resume --list
finish
