#!/bin/sh
# A workbench over a slow disk: each sync takes 0.2 s longer, and the screen's thread neither syncs nor writes the session.
. tests/tap.sh
shim=${SLIMSCOPE%/*}/tests/faultshim.so
cat >"$tmp/work.slim" <<END
calib tests/golden/analysis/_models/calib5.jsonl
analyze kurtosis
exclude *layers.1.mlp.down_proj
undo
exclude *layers.2.mlp.down_proj
sort name
END
exits 0 "the workbench works on a slow disk" env LD_PRELOAD="$shim" SYNC_MS=200 SYNC_LOG="$tmp/log" "$SLIMSCOPE" \
    lab_models/demo --ui --size 100x30 --script "$tmp/work.slim" --dump-screen "$tmp/screen"
has "$tmp/screen" "down_proj" "the screen was drawn"
grep "/sessions" "$tmp/log" >"$tmp/session.log"
is 0 "$(grep -c ' main ' "$tmp/session.log")" "the screen's thread left the session's files alone"
is 1 "$(awk '$3 == "other" {print $2}' "$tmp/session.log" | sort -u | wc -l)" "one thread wrote them"
is yes "$(grep -q '^fdatasync .*/journal ' "$tmp/session.log" && echo yes)" "and synced the journal"
is yes "$(grep -q '^fsync .*/streams/' "$tmp/session.log" && echo yes)" "and the streams"
exits 0 "what was done is there" "$SLIMSCOPE" resume --list
is 1 "$(wc -l <"$tmp/out")" "in one session"
finish
