#!/bin/sh
# --mem is kept, or refused with the figure.
. tests/tap.sh
model=lab_models/demo
# the line "peak memory 33.9 MiB, planned at most 61.3 MiB" in bytes/1024/1024*10: peak, plan
figures() { sed -n 's/^peak memory \([0-9]*\)\.\([0-9]\) MiB, planned at most \([0-9]*\)\.\([0-9]\) MiB$/\1\2 \3\4/p' "$1"; }
kept() {
    # shellcheck disable=SC2046 # two words are meant
    set -- "$1" $(figures "$tmp/err")
    if [ "$#" = 3 ] && [ "$2" -gt 0 ] && [ "$2" -le "$3" ]; then ok "$1"; else not_ok "$1"; sed 's/^/# /' "$tmp/err"; fi
}
for mem in 64M 100M 1G; do
    exits 0 "analyze in $mem" "$SLIMSCOPE" analyze --model_path $model --threads 2 --mem $mem
    kept "analyze keeps to $mem"
done
cp "$tmp/out" "$tmp/wide"
# What a process takes before it works differs between machines: the tightest limits may be refused, but never change a score.
for mem in 30M 34M 38M 42M; do
    if "$SLIMSCOPE" analyze --model_path $model --threads 2 --mem $mem >"$tmp/out" 2>"$tmp/err"; then
        same "$tmp/out" "$tmp/wide" "$mem changes no score"
    else
        has "$tmp/err" "raise --mem" "$mem is refused with what to do"
    fi
done
for mem in 160M 400M; do
    exits 0 "measure in $mem" "$SLIMSCOPE" measure --model_path $model --threads 2 --max-samples 8 --mem $mem
    kept "measure keeps to $mem"
done
exits 1 "analyze in 1M is refused" "$SLIMSCOPE" analyze --model_path $model --mem 1M
has "$tmp/err" "raise --mem" "with what to do"
exits 1 "measure in 20M is refused" "$SLIMSCOPE" measure --model_path $model --max-samples 8 --mem 20M
has "$tmp/err" "raise --mem" "with what to do, too"
finish
