#!/bin/sh
# Several ranks: metrics that are divided by texts have the bytes of one rank, alone and together in one pass.
cd "$(dirname "$0")/../.." || exit 1
. tests/tap.sh
. tests/ranks.sh
demo=lab_models/demo
head -n 24 lab_calib/boolq.jsonl >"$tmp/texts.jsonl"
texts=$tmp/texts.jsonl
analyze "act_outliers output_outliers massive text_range" "of what flows" 2
python3 -c 'import random
random.seed(3)
for n in (512, 3, 1, 700, 520, 40, 600): print("{\"input_ids\":%s}" % [random.randrange(2, 60) for _ in range(n)])' >"$tmp/ids.jsonl"
demo=tests/golden/models/qwen3_moe/fp32 texts=$tmp/ids.jsonl
analyze "local_error kurtosis" "of experts' outputs" 3
analyze "coverage massive act_outliers text_range" "of experts, with a rank that has no text" 7
finish
