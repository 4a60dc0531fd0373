#!/usr/bin/env python3
"""Which level other tools give each layer of the files that `export` writes, by a reading of their rules of its own: for
models of many families, with decisions of many fused groups. usage: read_exports.py PROGRAM DEMO_MODEL; prints TAP."""
import csv
import fnmatch
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

# What each scheme is, written down once more.
SCHEMES = {
    "W8A8": dict(bits=8, act=("int", 8, False, "tensor", False), group=None),
    "W8A8_DYNAMIC": dict(bits=8, act=("int", 8, True, "token", True), group=None),
    "W4A8_DYNAMIC": dict(bits=4, act=("int", 8, True, "token", True), group=None),
    "W8A16": dict(bits=8, act=None, group=None),
    "W4A16": dict(bits=4, act=None, group=8),
}
GGUF = [  # by the names of gguf-py
    (r"self_attn\.q_proj", ["attn_q"]), (r"self_attn\.k_proj", ["attn_k"]), (r"self_attn\.v_proj", ["attn_v"]),
    (r"self_attn\.o_proj", ["attn_output"]), (r"self_attn\.qkv_proj", ["attn_qkv"]),
    (r"mlp\.(gate|up|down)_proj", [r"ffn_\1"]), (r"mlp\.gate_up_proj", ["ffn_up"]),
    (r"mlp\.experts\.\d+\.(gate|up|down)_proj", [r"ffn_\1_exps"]),
    (r"block_sparse_moe\.experts\.\d+\.w1", ["ffn_gate_exps"]),
    (r"block_sparse_moe\.experts\.\d+\.w2", ["ffn_down_exps"]),
    (r"block_sparse_moe\.experts\.\d+\.w3", ["ffn_up_exps"]),
    (r"mlp\.shared_experts?\.(gate|up|down)_proj", [r"ffn_\1_shexp"]),
    (r"self_attn\.q_a_proj", ["attn_q_a"]), (r"self_attn\.q_b_proj", ["attn_q_b"]),
    (r"self_attn\.kv_a_proj_with_mqa", ["attn_kv_a_mqa"]), (r"self_attn\.kv_b_proj", ["attn_k_b", "attn_v_b"]),
    (r"self_attn\.indexer\.wq_b", ["indexer.attn_q_b"]), (r"self_attn\.indexer\.wk", ["indexer.attn_k"]),
    (r"self_attn\.indexer\.weights_proj", ["indexer.proj"]), (r"linear_attn\.in_proj_ba", ["ssm_ba"]),
    (r"linear_attn\.in_proj_qkvz", ["attn_qkv", "attn_gate"]), (r"linear_attn\.out_proj", ["ssm_out"]),
    (r"eh_proj", ["nextn.eh_proj"]),
]


def header(folder):
    with open(folder + "/model.safetensors", "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        return {k: v for k, v in json.loads(f.read(n)).items() if k != "__metadata__"}


def family(name):
    """What a runtime loads as one matrix."""
    for end, label in ((r"\.experts\..*", ".experts"), (r"\.shared_experts\.w[13]$", ".shared_experts.gu"),
                       (r"\.attn\.(wq_a|wkv)$", ".attn.qkv_a"), (r"\.[qkv]_proj$", ".qkv"), (r"\.(gate|up)_proj$", ".gu"),
                       (r"\.(q_a_proj|kv_a_proj_with_mqa)$", ".qkv_a")):
        if re.search(end, name):
            return re.sub(end, label, name)
    return name


def wanted(names, rules):
    level = {}
    for rule in rules:
        to, glob = rule.split("=", 1)
        hit = {family(n) for n in names if fnmatch.fnmatchcase(n, glob)}
        level.update({n: to for n in names if family(n) in hit})
    return level


def compressed(path, names, others):
    """compressed_tensors.utils.match; every module with a matrix is a Linear here."""
    mod = json.load(open(path))["quant_stage"]["quant_modifiers"]["QuantizationModifier"]

    def match(name, target):
        return re.match(target[3:], name) is not None if target.startswith("re:") else target == name

    def scheme(g):
        w, a = g["weights"], g.get("input_activations")
        act = a and (a["type"], a["num_bits"], a["symmetric"], a["strategy"], a["dynamic"])
        assert w["type"] == "int" and w["dynamic"] is False
        return [k for k, s in SCHEMES.items() if s["bits"] == w["num_bits"] and s["act"] == act
                and s["group"] == w.get("group_size") and (w["strategy"] == "group") == ("group_size" in w)]

    targets = sorted(((t, g) for g in mod["config_groups"].values() for t in g["targets"]),
                     key=lambda t: ("re:" in t[0], t[0]))
    got = {}
    for name in list(names) + others:
        got[name] = "float"
        if not any(match(name, i) for i in mod["ignore"]):
            hit = [g for t, g in targets if match(name, t)] or [g for t, g in targets if t == "Linear"]
            if hit:
                (got[name],) = scheme(hit[0])
    return got


def gptqmodel(path, names, others):
    conf = json.load(open(path))

    def dynamic_get(name):
        for pattern, over in conf["dynamic"].items():
            if pattern.startswith("-:"):
                if re.match(pattern[2:], name):
                    return False
            elif re.match(pattern.removeprefix("+:"), name):
                return over
        return {}

    got = {}
    for name in names:
        over = dynamic_get(name)
        if over is False or re.search(r"\.gate$|shared_expert_gate$", name):
            got[name] = "float"
            continue
        v = {k: over.get(k, conf[k]) for k in ("bits", "group_size", "sym")}
        (got[name],) = [k for k, s in SCHEMES.items() if s["act"] is None and s["bits"] == v["bits"]
                        and (s["group"] or -1) == v["group_size"]]
    return got


def llama_cpp(path, names, others):
    """Types instead of levels."""
    words = []
    for word in open(path).read().split():
        name, kind = word.split("=", 1)
        words.append((name.lower(), kind))
    got = {}
    for name in names:
        layer, rest = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", name).groups()
        row = [[re.sub(p, t, rest) for t in ts] for p, ts in GGUF if re.fullmatch(p, rest)]
        if not row:
            continue  # a router: never quantized
        kinds = set()
        for tensor in row[0]:
            hit = [k for p, k in words if re.search(p, f"blk.{layer}.{tensor}.weight")]
            assert hit and hit[0] == hit[-1], f"{tensor} of layer {layer}: {hit}"
            kinds.add(hit[0])
        (got[name],) = kinds
    return got


def table(path, names, others):
    rows = list(csv.DictReader(open(path, newline="")))
    assert len({r["name"] for r in rows}) == len(rows)
    for r in rows:
        assert int(r["bytes"]) > 0 and float(r["bits"]) > 0
    return {r["name"]: r["level"] for r in rows}


READ = {"compressed-tensors": compressed, "gptqmodel": gptqmodel, "llama.cpp": llama_cpp, "csv": table}


RECIPE = """apiversion: modelslim_v1
spec:
  process:
    - type: linear_quant
      qconfig: %s
      include: ['*mlp*', '*block_sparse_moe*']
    - type: linear_quant
      qconfig: %s
      include: ['*']
"""
CONFIG = {
    "W8A8": "{act: {scope: per_tensor, dtype: int8, symmetric: false, method: minmax}, "
            "weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}",
    "W8A8_DYNAMIC": "{act: {scope: per_token, dtype: int8, symmetric: true, method: minmax}, "
                    "weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}",
    "W8A16": "{act: {scope: per_tensor, dtype: float, symmetric: true, method: none}, "
             "weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}",
    "W4A16": "{act: {scope: per_tensor, dtype: float, symmetric: true, method: none}, "
             "weight: {scope: per_group, dtype: int4, symmetric: true, method: minmax, ext: {group_size: 8}}}",
}
ROUTER = r"(mlp|block_sparse_moe)\.gate$|shared_expert_gate$"
GOLDEN = ("llama phi3 gemma3 mixtral qwen2_moe qwen3_moe qwen3_next glm4_moe minimax_m2 deepseek_v2 deepseek_v3 "
          "deepseek_v32 longcat_flash deepseek_v4 gpt_oss").split()


def run(program, tmp, name, lines):
    path = f"{tmp}/{name}.slim"
    with open(path, "w") as f:
        f.write("\n".join(lines) + "\n")
    return subprocess.run([program, "--script", path], capture_output=True, text=True)


def families(names):
    """A few fused groups, as a person would give them back: by a member's name."""
    by = {}
    for n in names:
        by.setdefault(family(n), []).append(n)
    return by


def case(program, tmp, label, folder, pair, forms):
    """Writes a decision of its own for the model in every form, and reads it."""
    with open(f"{tmp}/{label}.yaml", "w") as f:
        f.write(RECIPE % (CONFIG[pair[0]], CONFIG[pair[1]]))
    opening = [f"open {folder}", f"recipe {tmp}/{label}.yaml"]
    table_path = f"{tmp}/{label}.names.csv"
    done = run(program, tmp, label + ".names", opening + [f"export! {table_path}"])
    if done.returncode:
        return f"{label}: {done.stderr}"
    names = [r["name"] for r in csv.DictReader(open(table_path, newline=""))]
    tensors = header(folder)
    rng = random.Random(label)
    heads = sorted(families(names).values())
    rules = [(pair[1], "*"), (pair[0], "*mlp*"), (pair[0], "*block_sparse_moe*")]
    lines = []
    for group in rng.sample(heads, min(24, max(1, len(heads) // 4))):
        rules.append(("float", group[0]))
        lines.append(f"exclude '{group[0]}'")
    for group in rng.sample(heads, min(16, max(1, len(heads) // 6))):
        rules.append((pair[1], group[-1]))
        lines.append(f"level {pair[1]} '{group[-1]}'")
    for n in names:
        if re.search(ROUTER, n) or "router" in n:
            rules.append(("float", n))
            lines.append(f"exclude '{n}'")
    want = wanted(names, [f"{l}={g}" for l, g in rules])
    done = run(program, tmp, label, opening + lines + [f"export! {tmp}/{label}.{f} --as {f}" for f in forms])
    if done.returncode:
        return f"{label}: {done.stderr}"
    others = [k[:-7] for k, v in tensors.items() if k.endswith(".weight") and len(v["shape"]) == 2
              and k[:-7] not in names and "embed" not in k] + ["lm_head"]
    for form in forms:
        got = READ[form](f"{tmp}/{label}.{form}", names, others)
        expect = dict(want)
        if form == "llama.cpp":
            base = {"F32": "f32", "BF16": "bf16", "F16": "f16"}[tensors[names[0] + ".weight"]["dtype"]]
            kind = {k: {8: "q8_0", 4: "q4_0"}[s["bits"]] for k, s in SCHEMES.items()}
            expect = {n: {**kind, "float": base}[l] for n, l in want.items() if n in got}
        for name in sorted(set(expect) | set(got)):
            if got.get(name, "float") != expect.get(name, "float"):
                return f"{label}: {form} gives {name} {got.get(name)}, not {expect.get(name)}"
    return None


def main():
    program, demo = sys.argv[1], sys.argv[2]
    bad = 0
    weights, inputs = ("W4A16", "W8A16"), ("W8A8_DYNAMIC", "W8A8")
    cases = []
    for m in GOLDEN:
        folder = f"tests/golden/models/{m}/fp32"
        cases.append((f"{m}.weights", folder, weights, ["csv", "compressed-tensors", "gptqmodel"]))
        cases.append((f"{m}.inputs", folder, inputs, ["csv", "compressed-tensors"]))
    cases.append(("demo", demo, weights, ["llama.cpp", "gptqmodel"]))
    with tempfile.TemporaryDirectory() as tmp:
        # real shapes: llama.cpp wants rows of 32
        subprocess.run([sys.executable, "tests/lib/family_headers.py", tmp + "/real"], check=True)
        for m in sorted(os.listdir(tmp + "/real")):
            if m not in ("longcat_flash", "deepseek_v4"):
                cases.append((f"real.{m}", f"{tmp}/real/{m}", weights, ["llama.cpp", "compressed-tensors"]))
        for label, folder, pair, forms in cases:
            try:
                fault = case(program, tmp, label, folder, pair, forms)
            except (AssertionError, KeyError, ValueError, OSError) as e:
                fault = f"{label}: {type(e).__name__} {e}"
            print(("not ok" if fault else "ok") + f" 1 - {label}: every layer has its level in {', '.join(forms)}")
            if fault:
                bad = 1
                print("# " + fault.strip().replace("\n", "\n# "))
    return bad


if __name__ == "__main__":
    sys.exit(main())
