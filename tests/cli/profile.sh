#!/bin/sh
# --profile: where the CPU time of a run went. Off by default, nothing else changes, every part there is can be reached.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
m=lab_models/demo
: >"$tmp/reached"
echo '{"input_ids":[1,2,3,4,5,6,7,8,9,10,11,12]}' >"$tmp/ids.jsonl"
# profiled NAME COMMAND...: its JSON has a profile that is whole; the parts it reached go to $tmp/reached
profiled() {
    name=$1; shift
    if python3 - "$tmp/reached" "$tmp/names" "$@" >"$tmp/said" 2>&1 <<'END'
import json, os, resource, subprocess, sys
reached, names, argv = sys.argv[1], sys.argv[2], sys.argv[3:]
p = subprocess.run(argv + ["--profile", "--format", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
assert p.returncode == 0, p.stderr.decode()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
d = json.loads(p.stdout)["profile"]
parts = d["parts"]
total = sum(v["cpu_seconds"] for v in parts.values())
assert abs(total - d["cpu_seconds"]) < 1e-4, "parts are %g s of %g s" % (total, d["cpu_seconds"])
assert d["cpu_seconds"] <= used.ru_utime + used.ru_stime + 0.05, "told %g s, the process took %g s" % (d["cpu_seconds"], used.ru_utime + used.ru_stime)
assert d["threads"] == 2 and d["seconds"] > 0
assert "CPU time" not in p.stderr.decode(), "the table is told beside the JSON"
for k, v in parts.items():
    assert v["cpu_seconds"] >= (0 if k != "other" else -0.01), "%s: %g s" % (k, v["cpu_seconds"])
    assert k == "other" or (v["cpu_seconds"] > 0) == (v["calls"] > 0), "%s: %g s in %d calls" % (k, v["cpu_seconds"], v["calls"])
open(names, "w").write("\n".join(sorted(parts)) + "\n")
open(reached, "a").write("".join(k + "\n" for k, v in parts.items() if v["calls"] or k == "other"))
END
    then ok "$name"; else not_ok "$name"; sed 's/^/# /' "$tmp/said"; fi
}
run="--threads 2 --max-samples 4 --seq-len 48"
# shellcheck disable=SC2086 # several words are meant
{
profiled "analyze" "$SLIMSCOPE" analyze --model_path $m $run --metrics kurtosis local_error
profiled "analyze, one metric" "$SLIMSCOPE" analyze --model_path $m $run
profiled "experts" "$SLIMSCOPE" analyze --model_path tests/golden/models/qwen3_moe/fp32 --calib_dataset "$tmp/ids.jsonl" $run
profiled "measure" "$SLIMSCOPE" measure --model_path $m $run
profiled "quant" "$SLIMSCOPE" quant --model_path $m --save_path "$tmp/q" --config_path lab_practice/default/default-w8a8-dynamic.yaml $run
sort -u "$tmp/reached" >"$tmp/all"
same "$tmp/names" "$tmp/all" "every part is reached by one of these"

exits 0 "as text" s analyze --model_path $m $run --profile
cp "$tmp/out" "$tmp/with"
has "$tmp/err" "products of linears" "a table on standard error"
exits 0 "without it" s analyze --model_path $m $run
same "$tmp/with" "$tmp/out" "the result is the same"
is 0 "$(grep -c 'CPU time' "$tmp/err")" "and no table"
exits 0 "JSON without it" s analyze --model_path $m $run --format json
is 0 "$(grep -c profile "$tmp/out")" "has none"
}
printf 'open %s\nset max-samples=2\nset seq-len=32\nset profile=on\nanalyze std quantile\nprofile\nrank --format json --out %s/rank\n' $m "$tmp" >"$tmp/s.slim"
exits 0 "in a session" s --script "$tmp/s.slim"
has "$tmp/out" "statistics" "profile prints that of the last job"
is 0 "$(grep -c profile "$tmp/rank")" "rank gives rows only"
printf 'open %s\nprofile\n' $m >"$tmp/s.slim"
exits 64 "before any" s --script "$tmp/s.slim"
has "$tmp/err" "set profile=on" "what to do is said"
finish
