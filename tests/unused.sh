#!/bin/sh
# usage: tests/unused.sh FILE OBJECT...   FILE: what the linker left out of the program, by --print-gc-sections
# Fails when the program does not reach a function of a header: it is dead, or only tests call it. Those below may stand,
# for the reason given; one that is reached after all, or gone, must go from here.
# And when nothing but its own file names a function or table that is not static: neither another object nor a test.
out=$1; shift
nm "$@" | sed -n 's/^[0-9a-f]* [TDRB] //p' | sort -u >"$out.defined"
nm -u "$@" | sed -n 's/^ *U //p' | cat - tests/unit/*.c tests/lib/*.c | grep -aoE '[A-Za-z_][A-Za-z0-9_]*' | sort -u >"$out.asked"
sed -n "s/.*unused section '\.text\.\([A-Za-z0-9_]*\)'.*/\1/p" "$out" | sort -u | comm -12 - "$out.defined" >"$out.left"
sed '/^$/d; s/ .*//' >"$out.allowed" <<'LIST'
adapt_deviation         how far from a rotation what was found is, for tests
adapt_round             the rounding that a rotation is searched for, for tests
decoder_length          tests hold what a decoder kept against it
layer_forward_part      the forward of a part of a unit, for layer jobs that replay
overlay_derive          the same
overlay_derive_tensor   the same
overlay_file            the same
overlay_replace         the same
save_changes_unsaved    the same
session_table_work      tests count by it what a step of the screen costs
statecache_dir_bytes    tests hold the cache's bound against it
unit_experts            what a layer job asks a unit for
LIST
sort -o "$out.allowed" "$out.allowed"
dead=$(comm -23 "$out.left" "$out.allowed")
own=$(comm -23 "$out.defined" "$out.asked")
stale=$(comm -13 "$out.left" "$out.allowed")
[ -z "$dead" ] || printf 'the program never calls: %s\n' $dead >&2
[ -z "$stale" ] || printf 'tests/unused.sh lists what is used or gone: %s\n' $stale >&2
[ -z "$own" ] || printf 'only its own file names it, so make it static: %s\n' $own >&2
[ -z "$dead$stale$own" ]
