#!/bin/sh
# Fails when a file includes a header of a floor above its own. The floors of core/ are those that CONTRIBUTING.md lists;
# above core/ are src/, then ui/, then src/main.c. core/registry.c names the rows of every floor. usage: floors.sh FILE...
order=$(sed -n 's/^Dependencies between the folders of `core\/` point downwards in this order: \(.*\)\.$/\1/p' CONTRIBUTING.md)
[ -n "$order" ] || { echo "floors: CONTRIBUTING.md lists no order of the folders of core/" >&2; exit 1; }
grep -n '^#include "' "$@" /dev/null | awk -F: -v order="$order" '
function floor_of(path,    part, n) {
    sub(/^core\//, "", path)
    n = split(path, part, "/")
    if (n == 1 || path == "src/main.c")
        return 1000 # core/registry.c, src/main.c
    if (!(part[1] in floor)) {
        printf "%s: the folder \"%s\" stands on no floor\n", $1, part[1]
        bad = 1
        return -1
    }
    return floor[part[1]]
}
BEGIN {
    n = split(order, list, /, /)
    for (i = 1; i <= n; i++)
        floor[list[i]] = n - i
    floor["src"] = n
    floor["ui"] = n + 1
}
{
    split($3, quoted, "\"")
    from = floor_of($1)
    to = floor_of(quoted[2])
    if (to > from && to < 1000 && from >= 0) {
        printf "%s:%s: includes %s, which stands above it\n", $1, $2, quoted[2]
        bad = 1
    }
}
END { exit bad }
' >&2
