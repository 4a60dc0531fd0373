#!/bin/sh
# asan: yes
# Help, version, the manual page (options.sh tries every option).
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
exits 0 "help" s help
cp "$tmp/out" "$tmp/help"
exits 0 "--help" s --help
same "$tmp/help" "$tmp/out" "is the same"
exits 0 "-h" s -h
same "$tmp/help" "$tmp/out" "is the same too"
exits 0 "version" s version
cp "$tmp/out" "$tmp/version"
exits 0 "--version" s --version
same "$tmp/version" "$tmp/out" "is the same"
exits 0 "-V" s -V
same "$tmp/version" "$tmp/out" "is the same too"
for w in slimscope kernels ncurses readline libyaml cJSON OpenBLAS core PCRE2 Unicode utf8proc nettle zlib libcurl; do
    has "$tmp/version" "$w" "version tells $w"
done
for k in reference generic; do
    SLIMSCOPE_KERNELS=$k exits 0 "version with $k kernels" s version
    is "kernels $k" "$(grep kernels "$tmp/out")" "tells them"
done
SLIMSCOPE_KERNELS=openblas exits 0 "version with OpenBLAS's" s version
has "$tmp/out" " and openblas" "tells them"
SLIMSCOPE_KERNELS='' exits 0 "version with an empty name" s version
same "$tmp/version" "$tmp/out" "is as without"
SLIMSCOPE_KERNELS=avx3 exits 64 "kernels of no name" s version
has "$tmp/err" "slimscope: SLIMSCOPE_KERNELS: there are no kernels 'avx3'; this processor runs reference, generic" "says which there are"
is 1 "$(wc -l <"$tmp/err")" "in one line"
case $(uname -m) in x86_64) other=neon ;; *) other=avx2 ;; esac
SLIMSCOPE_KERNELS=$other exits 64 "kernels of another processor" s version
has "$tmp/err" "slimscope: SLIMSCOPE_KERNELS: this processor cannot run '$other'; it runs reference, generic" "says which run here"
exits 0 "manual page" s help --man
same slimscope.1 "$tmp/out" "slimscope.1 is made from the tables (slimscope help --man >slimscope.1)"

verbs=$(sed -n 's/^  \([a-z]*\)  *[A-Z].*/\1/p' "$tmp/help" | sort -u)
for v in $(sed -n '/define COMMAND_ROWS/,/define COMMAND_DECLARE/p' src/commands.h | grep -o 'ROW([a-z]*)' | tr -d 'ROW()'); do
    case " $(echo $verbs) " in *" $v "*) ok "help lists $v" ;; *) not_ok "help lists $v" ;; esac
done
for v in $verbs; do
    exits 0 "help $v" s help "$v"
    has "$tmp/out" "usage: $v" "is its usage"
done
exits 0 "help of one command" s analyze --help
is "usage: analyze [linear|layer|attn] [METRIC...] [options]" "$(head -n 1 "$tmp/out")" "is its usage"
exits 64 "help of none" s help anlyze
has "$tmp/err" "unknown command 'anlyze': did you mean 'analyze'?" "suggests"
if [ -n "$(awk 'length > 120' "$tmp/help")" ]; then not_ok "help lines are short"; else ok "help lines are short"; fi
finish
