"""Hugging Face's forward of token ids, text by text, without head and statistics: a line of JSON. usage: hf_forward.py MODEL TOKENS fp32|bf16"""
import json
import resource
import sys
import time

import torch
import transformers
from transformers import AutoModelForCausalLM

folder, tokens, dtype = sys.argv[1:4]
transformers.logging.set_verbosity_error()
model = AutoModelForCausalLM.from_pretrained(folder, dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]).eval().model
with open(tokens) as f:
    texts = [json.loads(line)["input_ids"] for line in f]
with torch.no_grad():
    model(input_ids=torch.tensor([texts[0]]), use_cache=False)  # what is made once
    wall, cpu = time.monotonic(), time.process_time()
    for ids in texts:
        model(input_ids=torch.tensor([ids]), use_cache=False)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
print(json.dumps({"cpu": cpu, "wall": wall, "tokens": sum(map(len, texts)), "threads": torch.get_num_threads(),
                  "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
                  "version": "torch %s, transformers %s" % (torch.__version__, transformers.__version__)}))
