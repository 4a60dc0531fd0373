#!/bin/sh
# README.zh-CN.md says what README.md says: the same commands and screens, the same names in code, section by section.
. tests/tap.sh
python3 - >"$tmp/out" <<'PY'
import re

def sections(path):
    out = []
    for line in open(path, encoding="utf-8").read().split("\n") + [""]:
        if line.startswith("#"):
            out.append({"depth": len(line) - len(line.lstrip("#")), "code": [], "text": "", "rows": 0})
        elif line.startswith("    ") and out:
            out[-1]["code"].append(re.sub(r" +# .*", "", line).rstrip())
        elif out:
            out[-1]["text"] += line + " "
            out[-1]["rows"] += line.startswith("|")
    for s in out:
        s["spans"] = sorted(re.findall(r"`([^`]+)`", s["text"]))
    return out

en, zh = sections("README.md"), sections("README.zh-CN.md")
def check(what, good, detail=""):
    print("ok - " + what if good else "not ok - " + what + "\n# " + detail)
check("as many sections", [s["depth"] for s in en] == [s["depth"] for s in zh], f"{len(en)} {len(zh)}")
for i, (a, b) in enumerate(zip(en, zh)):
    check(f"section {i}: the same commands and screens", a["code"] == b["code"],
          next((f"{x!r} | {y!r}" for x, y in zip(a["code"], b["code"]) if x != y), "one is longer"))
    left, right = a["spans"], b["spans"]
    check(f"section {i}: the same names", left == right,
          f"only here {sorted(set(left) - set(right))}, only there {sorted(set(right) - set(left))}, {len(left)} {len(right)}")
    check(f"section {i}: as many table rows", a["rows"] == b["rows"], f"{a['rows']} {b['rows']}")
PY
relay "$tmp/out"
[ -s "$tmp/out" ] || not_ok "the comparison ran"
finish
