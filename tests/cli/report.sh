#!/bin/sh
# The session as one page: well-formed, needing nothing beside it, with the numbers that rank gives.
. tests/tap.sh
M=tests/golden/models/llama/fp32
printf '{"input_ids":[1,2,3,4,5,6,7,8]}\n{"input_ids":[9,8,7,6,5,4]}\n' >"$tmp/texts.jsonl"
ln -s "$PWD/$M" "$tmp/<i>&\"model'"
cp tests/golden/analysis/llama-fp32.std.json "$tmp/<img>.json"
script() { cat >"$tmp/$1.slim"; exits "${2:-0}" "$1" "$SLIMSCOPE" --script "$tmp/$1.slim"; }
script "a page is written" <<EOT
open "$tmp/<i>&\\"model'"
calib $tmp/texts.jsonl
eval $tmp/texts.jsonl
set ctx=8
analyze kurtosis local_error
load scores "$tmp/<img>.json" --as peer
measure
exclude *.layers.1.mlp.down_proj
measure
report $tmp/page.html
report $tmp/page.html
rank kurtosis local_error peer --format json --out $tmp/rank.json
report $tmp/again.html
EOT
has "$tmp/err" "written: $tmp/page.html" "it says so"
same "$tmp/page.html" "$tmp/again.html" "the same work gives the same bytes"
python3 - "$tmp" >"$tmp/tap" <<'P'
import html.parser, json, sys, xml.etree.ElementTree as ET
tmp = sys.argv[1]
text = open(tmp + "/page.html", encoding="utf-8").read()
def check(name, good, detail=""):
    print(("ok" if good else "not ok") + " - " + name + ("" if good else f"\n# {detail}"))
root = ET.fromstring(text)
check("well-formed XML", root.tag == "html")

class Walk(html.parser.HTMLParser):
    void = {"meta"}
    def __init__(self):
        super().__init__()
        self.open, self.bad, self.tags = [], [], set()
    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in self.void:
            self.open.append(tag)
        self.bad += [f"{tag} {k}={v}" for k, v in attrs if k in ("src", "href", "srcset", "data", "action") or k.startswith("on")
                     or "url(" in (v or "") or "//" in (v or "")]
    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()
    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.bad.append("/" + tag)
w = Walk()
w.feed(text)
check("tags close in their order, and nothing outside is named", not w.bad and not w.open, str(w.bad[:3]))
check("no scripts, frames or pictures", not w.tags & {"script", "iframe", "img", "link", "object", "embed", "i"}, str(w.tags))
style = root.find("head/style").text
check("no style from outside, both colour schemes", "@import" not in style and "url(" not in style and "prefers-color-scheme:dark" in style)
check("names are text", root.find("body/h1").text == "<i>&\"model'" and "Loaded from <img>.json" in "".join(root.itertext()))
check("pictures", len(root.findall(".//svg")) >= 3)

runs = json.load(open(tmp + "/rank.json"))["runs"]
found = {}
for section in root.iter("section"):
    heads = [th.text for th in section.iter("th")]
    if "rank" not in heads:
        continue
    metric = heads[heads.index("rank") + 2]
    rows = [tr for tr in section.iter("tr") if tr.find("td") is not None]
    found[metric] = [(tr[0].text, tr[1].text, float(tr[2].find("data").get("value"))) for tr in rows]
for run in runs:
    want = [(str(l["rank"]), l["name"], l["score"]) for l in run["layers"]]
    check(f"the page's {run['metric']} is rank's to the last digit", found.get(run["metric"]) == want)
for data in root.iter("data"):
    value, shown = float(data.get("value")), float(data.text)
    if abs(value - shown) > 1e-3 * abs(value):
        check("a number is shown as it is", False, f"{value} {shown}")
P
relay "$tmp/tap"
grep -q '^ok' "$tmp/tap" || { not_ok "the page was read"; tail -n 3 "$tmp/tap" | sed 's/^/# /'; }

script "the same as text" <<EOT
open $M
calib $tmp/texts.jsonl
analyze kurtosis local_error
report
report $tmp/page.txt --glyphs ascii
report $tmp/blocks.txt --glyphs block
EOT
has "$tmp/out" "Where kurtosis is high: layers 0 to 2" "printed"
is "" "$(LC_ALL=C tr -d '\11\12\40-\176' <"$tmp/page.txt")" "in ASCII"
is "" "$(awk 'length > 80' "$tmp/page.txt")" "in eighty columns"
has "$tmp/blocks.txt" "█" "with blocks"
exits 0 "without a session" "$SLIMSCOPE" report --model_path $M --calib_dataset "$tmp/texts.jsonl" --eval "$tmp/texts.jsonl" --ctx 8 --out "$tmp/whole.html"
for part in "<h2>KL over size</h2>" "<h2>Where block_error is high</h2>" "<div><p>input activations" "<div><p>weight over its dequantized values" "<div><p>square error of the weight"; do
    has "$tmp/whole.html" "$part" "the page has $part"
done
exits 0 "which is well-formed" python3 -c 'import sys, xml.etree.ElementTree as ET; ET.parse(sys.argv[1])' "$tmp/whole.html"
exits 0 "and as text" "$SLIMSCOPE" report --model_path $M --calib_dataset "$tmp/texts.jsonl" --eval "$tmp/texts.jsonl" --ctx 8 --glyphs ascii
for part in "KL over size" "Block error" "alone over block_error" "input activations:" "weight over its dequantized values:" "square error of the weight"; do
    has "$tmp/out" "$part" "the text has $part"
done
exits 64 "two files" "$SLIMSCOPE" report "$tmp/a.html" --out "$tmp/b.html" --model_path $M

script "a page that is there stays" 74 <<EOT
open $M
report $tmp/page.html
EOT
same "$tmp/page.html" "$tmp/again.html" "its content is the old one"
script "with ! it is replaced" <<EOT
open $M
report! $tmp/page.html
EOT
has "$tmp/page.html" "Nothing is measured yet." "its content is the new one"
script "a folder that is not there" 74 <<EOT
open $M
report $tmp/none/page.html
EOT
script "without a model" 64 <<EOT
report $tmp/x.html
EOT
[ ! -e "$tmp/x.html" ] && ok "nothing was written" || not_ok "nothing was written"
finish
