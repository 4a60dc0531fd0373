#!/bin/sh
# The workbench in another language: its tables have every word that is shown, LANG, --lang and set lang= choose it, commands stay.
. tests/tap.sh
for l in src/lang_*.h; do
    t=${l%.h}; t=${t#src/lang_}
    python3 tests/lib/ui_words.py "$(printf '%s,' src/lang_"$t"_*.c | sed 's/,$//')" ui/*.c src/cmd_edit.c src/cmd_rule.c src/cmd_guide.c src/plot*.c core/measure/paired.c core/recipe/vary.c core/session/guide_rows.c core/session/guide_try.c core/session/guide_view.c core/session/modeltree.c | grep -v 'any more: \(read-only\|not saved\|keep float\|8-bit\|group 64\|fine\|linear\|attention\)$' >"$tmp/lacks"
    if [ -s "$tmp/lacks" ]; then not_ok "the tables of $t have every word"; sed 's/^/# /' "$tmp/lacks"; else ok "the tables of $t have every word"; fi
done
# Templates of lines of the log are what core/ says, but for the conversions.
python3 - >"$tmp/lines" <<'PY'
import glob, re
text = "".join(open(f, encoding="utf-8").read() for f in glob.glob("core/process/*.c") + glob.glob("core/save/*.c") + glob.glob("core/session/*.c"))
text = re.sub(r"%[.0-9]*[a-z]+", "%s", re.sub(r'"\s*\n?\s*"', "", text))
for en in re.findall(r'\.en = "((?:[^"\\]|\\.)*)"', open("src/lines_zh.c", encoding="utf-8").read()):
    plain = en.replace(", or the original finds no scales for them", "%s")
    if en not in text and plain not in text and en.replace(" of the inputs, first", " of the inputs%s, first") not in text:
        print(en)
PY
is "" "$(cat "$tmp/lines")" "every template of a line of the log is a line of the log"
printf 'open lab_models/demo\nset max-samples=1\nset seq-len=32\nanalyze kurtosis local_error\nexclude *.0.mlp.down_proj\n' >"$tmp/s.slim"
# screen LOCALE ARGUMENTS...: the last screen
screen() {
    where=$1; shift
    env LC_ALL="$where" "$SLIMSCOPE" --ui --size 100x30 --script "$tmp/s.slim" --dump-screen "$tmp/screen" "$@" >/dev/null 2>"$tmp/err" ||
        { not_ok "a screen"; sed 's/^/# /' "$tmp/err"; }
}
screen C.UTF-8 --lang zh
has "$tmp/screen" "[1 排名] 2 推演 3 任务" "--lang zh: the tabs"
has "$tmp/screen" "56/56 已评分" "the figures' words"
has "$tmp/screen" "浮点 1/56" "the summary"
has "$tmp/screen" "F10退出" "the keys"
has "$tmp/screen" "model.layers.6.mlp.down_proj" "names stay"
screen C.UTF-8
has "$tmp/screen" "[1 Rank] 2 What-if" "without a word of the user it is English"
printf 'set lang=zh\n' | cat "$tmp/s.slim" - >"$tmp/t.slim" && mv "$tmp/t.slim" "$tmp/s.slim"
screen C.UTF-8
has "$tmp/screen" "[1 排名]" "set lang=zh"
exits 64 "an unknown language" "$SLIMSCOPE" --ui --size 80x24 --lang tlh lab_models/demo
has "$tmp/err" "there is no language 'tlh': lang is auto, en, zh" "is named"
mkdir "$tmp/locales"
if localedef -i zh_CN -f UTF-8 "$tmp/locales/zh_CN.UTF-8" 2>/dev/null; then
    sed -i '/lang=/d' "$tmp/s.slim"
    LOCPATH=$tmp/locales screen zh_CN.UTF-8
    has "$tmp/screen" "[1 排名]" "LANG chooses it"
    LOCPATH=$tmp/locales screen zh_CN.UTF-8 --lang en
    has "$tmp/screen" "[1 Rank]" "--lang en keeps English"
else
    skip "LANG chooses it" "no sources of locales"
fi
finish
