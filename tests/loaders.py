"""Loads what `slimscope quant` writes as compressed_tensors with transformers and compressed-tensors, and compares the
logits with what `slimscope measure` found: `make check-loaders`. Says what is missing and does nothing without these.

usage: loaders.py SLIMSCOPE [FAMILY...]   (make's PYTHON is who runs this)
"""
import contextlib
import importlib
import io
import json
import math
import os
import random
import subprocess
import sys
import tempfile

MODELS = "tests/golden/models"
ACT = {
    "token": "{dtype: int8, scope: per_token, symmetric: true, method: minmax}",
    "tensor": "{dtype: int8, scope: per_tensor, symmetric: false, method: minmax}",
    "symmetric": "{dtype: int8, scope: per_tensor, symmetric: true, method: minmax}",
}
# Recipes: entries of (activations, include, exclude). "attention" leaves all experts in float.
ATTENTION, MLP = "'*attn*'", "'*mlp*', '*block_sparse_moe*'"
APART = "'*.gate', '*.router', '*shared_expert_gate', '*router.classifier'"
RECIPES = {
    "token": [("token", "'*'", APART)],
    "tensor": [("tensor", "'*'", APART)],
    "symmetric": [("symmetric", "'*'", APART)],
    "mixed": [("tensor", ATTENTION, "'*.1.*'"), ("token", MLP, APART + ", '*layers.0.*'")],
    "attention": [("symmetric", "'*.o_proj'", ""), ("token", ATTENTION, "'*.o_proj'")],
}
KL, PERPLEXITY = 5e-2, 2e-3  # of models so small, one input that a sum in another order rounds the other way is felt

count = bad = 0


def result(good, text, why=""):
    global count, bad
    count += 1
    bad += not good
    print("%s %d - %s%s" % ("ok" if good else "not ok", count, text, why), flush=True)


def missing_packages():
    for name in ("torch", "transformers", "compressed_tensors"):
        try:
            importlib.import_module(name)
        except Exception as e:  # a package that is there but can't be loaded says why
            return "%s can't import %s (%s): pip install torch transformers compressed-tensors, and give PYTHON=" % (
                sys.executable, name, e)
    return None


def recipe(path, entries, ids):
    with open(path, "w") as f:
        f.write("apiversion: modelslim_v1\nspec:\n  dataset: %s\n  process:\n" % ids)
        for act, include, exclude in entries:
            f.write("  - type: linear_quant\n    qconfig: {act: %s, weight: {dtype: int8, scope: per_channel, symmetric: "
                    "true, method: minmax}}\n    include: [%s]\n    exclude: [%s]\n" % (ACT[act], include, exclude))
        f.write("  save:\n  - type: compressed_tensors\n")


def run(*args):
    return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def logits(path, texts):
    """Logits of every text, and what the loader had no tensor for or no place for."""
    import torch
    from transformers import AutoModelForCausalLM

    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        model, info = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, output_loading_info=True, attn_implementation="eager")
    lost = sorted(set(info["missing_keys"]) | {k if isinstance(k, str) else k[0] for k in info["mismatched_keys"]})
    extra = sorted(info["unexpected_keys"])
    with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
        return [model(torch.tensor([t])).logits[0].double() for t in texts], lost, extra


def scale_as_engines():
    """Scales of inputs that are quantized token by token are the engine's own: vLLM, and `measure`, divide the largest
    magnitude of a token by 127. compressed-tensors' own forward divides by 127.5, and takes all tokens of an expert as
    one. The former is what is compared."""
    import torch
    from compressed_tensors.quantization import QuantizationStrategy
    from compressed_tensors.quantization.lifecycle import forward

    theirs = forward.compute_dynamic_scales_and_zp

    def ours(*args, **kw):
        value, how = kw.get("value", args[0] if args else None), kw.get("args", args[1] if len(args) > 1 else None)
        scale, zero = theirs(*args, **kw)
        if how.strategy != QuantizationStrategy.TOKEN:
            return scale, zero
        scale = value.abs().amax(-1, keepdim=True) / 127
        scale = torch.where(scale == 0, torch.finfo(scale.dtype).eps, scale)
        return scale, torch.zeros_like(scale, dtype=zero.dtype)

    forward.compute_dynamic_scales_and_zp = ours


def effect(a, b, texts):
    """KL(a || b) a predicted token, and the perplexity of b, as `measure` defines them."""
    import torch

    kl, loss = [], []
    for x, y, t in zip(a, b, texts):
        p, q = torch.log_softmax(x[:-1], -1), torch.log_softmax(y[:-1], -1)
        kl += (p.exp() * (p - q)).sum(-1).tolist()
        loss += (-q[range(len(t) - 1), t[1:]]).tolist()
    return sum(kl) / len(kl), math.exp(sum(loss) / len(loss))


def near(share, a, b):
    return abs(a - b) <= share * abs(a)


def check(slimscope, family, name, tmp, texts, ids, plain, known):
    model = os.path.join(MODELS, family, "fp32")
    path, out = os.path.join(tmp, "r.yaml"), os.path.join(tmp, family + "-" + name)
    recipe(path, RECIPES[name], ids)
    title = "%s, %s" % (family, name)
    r = run(slimscope, "quant", "--model_path", model, "--config_path", path, "--save_path", out)
    if r.returncode == 65 and "wants them stacked" in r.stderr:
        return result(True, title + ": refused, its experts are loaded in stacks")
    if r.returncode:
        return result(False, title + ": quant", "\n# " + r.stderr.strip().splitlines()[-1])
    m = run(slimscope, "measure", "--model_path", model, "--recipe", path, "--calib_dataset", ids, "--eval", ids,
            "--format", "json", "--ctx", "512")
    if m.returncode:
        return result(False, title + ": measure", "\n# " + m.stderr.strip().splitlines()[-1])
    own = json.loads(m.stdout)
    loaded = effect(plain, plain, texts)[1]
    if abs(own["perplexity_float"]["mean"] - loaded) > 1e-4 * loaded:
        return result(True, title + " # SKIP this transformers computes another float model: perplexity %.6g, not %.6g" % (
            loaded, own["perplexity_float"]["mean"]))
    try:
        got, lost, extra = logits(out, texts)
    except RuntimeError as e:
        if "conversion of the weights" not in str(e):
            raise
        return result(True, title + " # SKIP this transformers stacks experts and reads none of this format (vLLM does)")
    lost, extra = sorted(set(lost) - known), sorted(set(extra) - known)  # of the float model too
    if lost or extra:
        return result(False, title + ": tensors", "\n# without a tensor: %s\n# without a place: %s" % (lost[:5], extra[:5]))
    kl, ppl = effect(plain, got, texts)
    good = near(KL, own["kl"]["mean"], kl) and near(PERPLEXITY, own["perplexity_quantized"]["mean"], ppl)
    why = "\n# KL %.9g, loaded %.9g; perplexity %.9g, loaded %.9g" % (
        own["kl"]["mean"], kl, own["perplexity_quantized"]["mean"], ppl)
    result(good, title + ": the logits that were measured", "" if good else why)


def main(slimscope, *wanted):
    why = missing_packages()
    if why:
        print("ok 1 # SKIP " + why)
        return 0
    import compressed_tensors
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    scale_as_engines()
    print("# transformers %s, compressed-tensors %s, torch %s" % (
        transformers.__version__, compressed_tensors.__version__, torch.__version__))
    with tempfile.TemporaryDirectory() as tmp:
        for family in sorted(os.listdir(MODELS)):
            model = os.path.join(MODELS, family, "fp32")
            if not os.path.isdir(model) or (wanted and family not in wanted):
                continue
            r = random.Random(7)
            with open(os.path.join(model, "config.json")) as f:
                vocab = json.load(f)["vocab_size"]
            texts = [[r.randrange(vocab) for _ in range(n)] for n in (60, 48)]
            ids = os.path.join(tmp, "ids.jsonl")
            with open(ids, "w") as f:
                f.write("".join('{"input_ids":%s}\n' % json.dumps(t) for t in texts))
            try:
                plain, lost, extra = logits(model, texts)
            except Exception as e:
                result(True, "%s # SKIP this transformers doesn't load it: %s" % (family, str(e).splitlines()[0][:120]))
                continue
            for name in RECIPES:
                try:
                    check(slimscope, family, name, tmp, texts, ids, plain, set(lost + extra))
                except Exception as e:
                    result(False, "%s, %s: loading" % (family, name), "\n# " + " ".join(str(e).split())[:300])
    print("1..%d" % count)
    return bad > 0


sys.exit(main(*sys.argv[1:]))
