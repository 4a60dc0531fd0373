#!/usr/bin/env python3
"""Makes unicode_table.c: the code points whose general category in Unicode 16 differs from an older table.

PCRE2 and utf8proc carry the Unicode version of their release, the tokenizers' split patterns need version 16. The
build never runs this script; its output is committed. How the table was made:

    python3.9  gen_unicode.py dump >u13      # each interpreter's own unicodedata: 13.0, 14.0, 15.0, 15.1
    python3.11 gen_unicode.py dump >u14
    python3.12 gen_unicode.py dump >u15
    python3.13 gen_unicode.py dump >u151
    python3 gen_unicode.py dump >u16         # with the package unicodedata2 16.0.0
    python3 gen_unicode.py table u16 u13 u14 u15 u151 >unicode_table.c
"""
import sys


def dump():
    try:
        import unicodedata2 as ud
    except ImportError:
        import unicodedata as ud
    print(ud.unidata_version)
    for cp in range(0x110000):
        name = ud.name(chr(cp), "")
        ideograph = name.startswith(("CJK UNIFIED IDEOGRAPH-", "CJK COMPATIBILITY IDEOGRAPH-"))
        print(ud.category(chr(cp)), int(ideograph))


def load(path):
    lines = open(path).read().split("\n")
    return lines[0], [line.split() for line in lines[1:0x110001]]


def ranges(members):
    out = []
    for cp, value in members:
        if out and out[-1][1] == cp - 1 and out[-1][2] == value:
            out[-1][1] = cp
        else:
            out.append([cp, cp, value])
    return out


def table(new, old):
    version, now = load(new)
    was = [load(path) for path in old]
    codes = [int(v.split(".")[0]) * 10 + int(v.split(".")[1]) for v, _ in was]
    changed, han = [], []
    for cp in range(0x110000):
        differs = [k for k, (_, rows) in enumerate(was) if rows[cp] != now[cp]]
        if not differs or now[cp][0] == "Cn":
            continue
        last = codes[differs[-1]]
        if any(was[k][1][cp][0] != now[cp][0] for k in differs):
            moved = [was[k][1][cp][0] for k in differs if was[k][1][cp][0] != "Cn"]
            changed.append((cp, (last, now[cp][0], moved[0] if moved else "")))
        if now[cp][1] == "1":
            han.append((cp, (last, "Lo", "")))
    print('/* Made by gen_unicode.py: code points that in Unicode %s have another general category than in one of' % version)
    print(' * %s. Ascending, no overlap. */' % ", ".join(v for v, _ in was))
    print('#include "text/unicode.h"\n')
    for name, members in (("unicode_delta", changed), ("unicode_delta_han", han)):
        print('const UnicodeDelta %s[] = {' % name)
        for lo, hi, (last, cat, moved) in ranges(members):
            print('    {0x%04x, 0x%04x, %d, "%s", "%s"},' % (lo, hi, last, cat, moved))
        print('};\nconst size_t %s_count = sizeof %s / sizeof %s[0];' % (name, name, name))


if len(sys.argv) == 2 and sys.argv[1] == "dump":
    dump()
elif len(sys.argv) > 3 and sys.argv[1] == "table":
    table(sys.argv[2], sys.argv[3:])
else:
    sys.exit(__doc__)
