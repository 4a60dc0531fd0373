#!/bin/sh
# usage: tests/unused.sh OBJECT...   the program's own objects (core/, src/, ui/)
# Fails when a function that another object could call is called by none of the program: it is dead, only tests call it,
# or it ought to be static.
nm -A "$@" | awk '
    { sub(/:/, " ") }
    $3 == "T" || $2 == "T" { name = $NF; file[name] = $1; next }
    $2 == "U" || $3 == "U" { used[$NF] = 1 }
    END {
        for (name in file)
            if (!(name in used) && name != "main") { print file[name] ": " name; bad = 1 }
        exit bad
    }' | sort | sed 's/^/no other file of the program calls it: /'
