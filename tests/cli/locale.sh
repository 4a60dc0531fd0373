#!/bin/sh
# What a name means and how a number is written don't depend on the locale: in Turkish 'I' and 'i' are no pair, in German a
# comma separates the decimals.
. tests/tap.sh
model=lab_models/demo
mkdir "$tmp/locales"
pick() { "$SLIMSCOPE" quant --model_path $model --save_path "$tmp/w" --model_type MINIMAX-M2.7 --quant_type w8a8 --why --dry-run --yes 2>&1 |
    grep -v ' - slimscope'; }
rank() { "$SLIMSCOPE" analyze --model_path $model --metrics std --max-samples 2 --seq-len 32 --format json 2>/dev/null; }
LC_ALL=C MSMODELSLIM_LOG_LEVEL=INFO pick >"$tmp/pick"
has "$tmp/pick" "model MiniMax-M2.7, folder minimax_m2" "a model is known whatever the case of its name"
LC_ALL=C rank >"$tmp/rank"
has "$tmp/rank" '"score"' "a ranking"
for l in tr_TR de_DE; do
    if ! localedef -i $l -f UTF-8 "$tmp/locales/$l.UTF-8" 2>/dev/null; then
        skip "$l: the same practice" "no sources of locales"
        continue
    fi
    LOCPATH=$tmp/locales LC_ALL=$l.UTF-8
    export LOCPATH LC_ALL
    is UTF-8 "$(locale charmap)" "$l is there"
    MSMODELSLIM_LOG_LEVEL=INFO pick >"$tmp/pick.$l"
    same "$tmp/pick" "$tmp/pick.$l" "$l: the same practice"
    rank >"$tmp/rank.$l"
    same "$tmp/rank" "$tmp/rank.$l" "$l: the same numbers"
    unset LOCPATH LC_ALL
done
finish
