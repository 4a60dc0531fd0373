# Sourced by tests/cli/*.sh: TAP helpers. $SLIMSCOPE is the program under test.
: "${SLIMSCOPE:=build/slimscope}"
tap_n=0 tap_bad=0
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
XDG_STATE_HOME=$tmp/state XDG_CONFIG_HOME=$tmp/config XDG_CACHE_HOME=$tmp/cache
export XDG_STATE_HOME XDG_CONFIG_HOME XDG_CACHE_HOME
ok() { tap_n=$((tap_n + 1)); echo "ok $tap_n - $*"; }
not_ok() { tap_n=$((tap_n + 1)); tap_bad=1; echo "not ok $tap_n - $*"; }
skip() { tap_n=$((tap_n + 1)); echo "ok $tap_n - $1 # SKIP $2"; }
# is WANT GOT NAME
is() { if [ "$1" = "$2" ]; then ok "$3"; else not_ok "$3"; echo "# wanted: $1"; echo "# got:    $2"; fi; }
# has FILE TEXT NAME: the file contains the text
has() { if grep -qF -- "$2" "$1"; then ok "$3"; else not_ok "$3"; echo "# no '$2' in:"; sed 's/^/#   /' "$1" | head -n 20; fi; }
# same FILE FILE NAME
same() { if cmp -s "$1" "$2"; then ok "$3"; else not_ok "$3"; diff "$1" "$2" | head -n 20 | sed 's/^/# /'; fi; }
# exits CODE NAME COMMAND...: stdout in $tmp/out, stderr in $tmp/err
exits() {
    want=$1 name=$2; shift 2
    "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    got=$?
    if [ "$got" = "$want" ]; then ok "$name"; else not_ok "$name"; echo "# exit $got, wanted $want"; head -n 10 "$tmp/err" | sed 's/^/# /'; fi
}
# relay FILE: what another program wrote as TAP, as lines of this one
relay() {
    while IFS= read -r line; do
        case $line in
        "ok "*) ok "${line#* - }" ;;
        "not ok "*) not_ok "${line#* - }" ;;
        "#"*) echo "$line" ;;
        esac
    done <"$1"
}
finish() { echo "1..$tap_n"; exit $tap_bad; }
