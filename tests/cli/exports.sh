#!/bin/sh
# The decision in the words of other tools: what each of them takes from its file, read by a program of its own, is what
# was decided; what a form has no words for is refused by its name; a file is written whole or not at all.
. tests/tap.sh
M=lab_models/demo
PYTHONDONTWRITEBYTECODE=1 python3 tests/lib/read_exports.py "$SLIMSCOPE" $M >"$tmp/tap" 2>&1
relay "$tmp/tap"
grep -q '^ok' "$tmp/tap" || { not_ok "the files were read"; tail -n 3 "$tmp/tap" | sed 's/^/# /'; }
# script NAME [CODE]: standard input as a script
script() { cat >"$tmp/$1.slim"; exits "${2:-0}" "$1" "$SLIMSCOPE" --script "$tmp/$1.slim"; }

script "a file's name chooses the form" <<EOT
open $M
exclude model.layers.3.mlp.down_proj
export $tmp/a.csv
export $tmp/a.txt
export $tmp/a.yaml
export $tmp/a.json --as compressed-tensors
EOT
has "$tmp/a.csv" "model.layers.3.mlp.down_proj,model.layers.3.mlp.down_proj,float," "csv"
has "$tmp/a.txt" '^blk\.(3)\.ffn_down\.weight$=bf16' "llama.cpp"
has "$tmp/a.yaml" "apiversion: modelslim_v1" "yaml"
has "$tmp/a.json" '"model.layers.3.mlp.down_proj"' "compressed-tensors"
has "$tmp/err" "[ok] round trip: read again by the rules of llm-compressor, all 56 layers at their level" "the proof is told"

script "an ambiguous name is refused" 64 <<EOT
open $M
export $tmp/b.json
EOT
has "$tmp/err" "say --as compressed-tensors or gptqmodel" "both are named"

cp "$tmp/a.csv" "$tmp/was.csv"
script "a file that is there stays" 74 <<EOT
open $M
export $tmp/a.csv
EOT
same "$tmp/was.csv" "$tmp/a.csv" "its content is the old one"
script "with ! it is replaced" <<EOT
open $M
export! $tmp/a.csv
EOT
is 0 "$(grep -c ,float, "$tmp/a.csv")" "its content is the new one"

script "a level without words is refused" 65 <<EOT
open $M
export! $tmp/c.json --as gptqmodel
EOT
has "$tmp/err" "W8A8 can't be written for GPTQModel: it quantizes weights alone" "the level is named"
[ ! -e "$tmp/c.json" ] && ok "nothing was written" || not_ok "nothing was written"

script "a family without names is refused" 65 <<EOT
open tests/golden/models/longcat_flash/fp32
export $tmp/d.txt
EOT
has "$tmp/err" "longcat_flash can't be written for llama.cpp: it has no names for this family" "the family is named"

script "scores stand in the table" <<EOT
open $M
analyze kurtosis --max-samples 2
export $tmp/scores.csv
EOT
is "name,group,level,bits,bytes,kurtosis" "$(head -n 1 "$tmp/scores.csv" | cut -d, -f1-6)" "a column for the metric"
is 56 "$(awk -F, 'NR > 1 && $6 != ""' "$tmp/scores.csv" | wc -l)" "a score for each layer"
finish
