"""Makes the files of this folder. Needs the Python packages tokenizers and tiktoken; the tests do not. Run from the repository root."""
import base64, json, os
import tiktoken
from tokenizers import Tokenizer, models, trainers, pre_tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = [x["text"] for x in json.load(open("tests/golden/tokenizers/gpt2/golden.json", encoding="utf-8"))]
# texts to learn from: our own
CORPUS = [json.loads(l)["inputs_pretokenized"] for l in open("lab_calib/mix_calib.jsonl", encoding="utf-8")]
PRETOK_TEXTS = [
    "", "a", "12", "Hello, world!", "a--b... (c) $5+3=8 <x|y> ~`^ end", "In 1984 there were 123456 of 7; 20,000.50 for \u00bd?", "  two  spaces\n\nand 1\t2 ",
    "\u4e2d\u6587\uff0c12\u4e2a\u5b57\u3002 \u00bfQu\u00e9? \u00abna\u00efve\u00bb \u2014 \u20ac9", "\u0663\u0664 \u2167 \u00b2\u00b3 \u216b1", "\ufeffe\u0301 \U0001f600!? #42", "don't_stop @me 1st",
    "!!!???...,,,", "x1y22z333w4444v55555", "\u2581mark \u2581\u2581 12.",
]
BYTE_CASES = {
    "falcon": [{"type": "Punctuation", "behavior": "Contiguous"}, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
               {"type": "Digits", "individual_digits": False}, {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated", "invert": False}],
    "prefixed, then digits": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}, {"type": "Digits", "individual_digits": True}],
    "punctuation after": [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}, {"type": "Punctuation", "behavior": "Isolated"}],
    "letters of spaces": [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
                          {"type": "Split", "pattern": {"String": "\u0120"}, "behavior": "MergedWithNext", "invert": False}],
    "words of the alphabet": [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
                              {"type": "Split", "pattern": {"Regex": "\\p{L}+"}, "behavior": "Isolated", "invert": False}],
    "digits before": [{"type": "Digits", "individual_digits": True}, {"type": "Punctuation", "behavior": "MergedWithPrevious"},
                      {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}],
    "nested": [{"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
               {"type": "Sequence", "pretokenizers": []}],
    "twice": [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
              {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}],
    "marked": [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
               {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}],
}
BEHAVIORS = ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
CHAR_CASES = {"punctuation " + b: [{"type": "Punctuation", "behavior": b}] for b in BEHAVIORS}
CHAR_CASES |= {"digits one by one": [{"type": "Digits", "individual_digits": True}], "digits together": [{"type": "Digits", "individual_digits": False}],
               "digits, punctuation": [{"type": "Digits", "individual_digits": False}, {"type": "Punctuation", "behavior": "MergedWithNext"}],
               "punctuation, digits, mark": [{"type": "Punctuation", "behavior": "Contiguous"}, {"type": "Digits", "individual_digits": True},
                                             {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True}]}
CHAR_CASES |= {"not digits " + b: [{"type": "Split", "pattern": {"Regex": "\\d+"}, "behavior": b, "invert": True}] for b in BEHAVIORS}


def learn(texts, size, byte_level):
    """A BPE whose merges run over every boundary, so that a wrong cut shows."""
    t = Tokenizer(models.BPE(unk_token=None if byte_level else "<unk>"))
    if byte_level:
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        texts = [t.pre_tokenizer.pre_tokenize_str(x)[0][0] for x in texts if x]
        t.pre_tokenizer = None
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else []
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet,
                                                     special_tokens=[] if byte_level else ["<unk>"], max_token_length=12))
    m = json.loads(t.to_str())["model"]
    return {"type": "BPE", "unk_token": m["unk_token"], "vocab": m["vocab"], "merges": m["merges"]}


def whole(model, pre, added=(), normalizer=None):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(added), "normalizer": normalizer, "pre_tokenizer": pre,
            "post_processor": None, "decoder": None, "model": {"dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                                                               "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, **model}}


def put(name, value):
    os.makedirs(os.path.dirname(os.path.join(HERE, name)), exist_ok=True)
    with open(os.path.join(HERE, name), "w", encoding="utf-8", newline="\n") as f:
        f.write(value if isinstance(value, str) else json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


def golden(encode):
    return "[\n" + ",\n".join(json.dumps({"text": x, "ids": encode(x), "ids_no_special": encode(x)}) for x in TEXTS) + "\n]\n"


def pretok_cases():
    sets = []
    for cases, byte_level in ((BYTE_CASES, True), (CHAR_CASES, False)):
        model = learn(PRETOK_TEXTS * 3 + [x[:400] for x in CORPUS[:12]], 420 if byte_level else 400, byte_level)
        out = []
        for name, steps in cases.items():
            t = Tokenizer.from_str(json.dumps(whole(model, {"type": "Sequence", "pretokenizers": steps})))
            out.append({"name": name, "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "ids": [t.encode(x).ids for x in PRETOK_TEXTS]})
        sets.append({"model": model, "cases": out})
    put("pretok.json", {"texts": PRETOK_TEXTS, "sets": sets})


QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LOWER, UPPER, END = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
KIMI = "|".join([r"[\p{Han}]+", r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + "+" + END, r"[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + "*" + END,
                 r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


def added(first):
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {str(first + i): {"content": c, **flags} for i, c in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "[EOS]"])}


def split(pattern):
    return {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                                                  {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}


def vocab_merges():
    model = learn(TEXTS + CORPUS[:20], 600, True)
    decoder = added(len(model["vocab"]))
    tokens = [{"id": int(k), **v} for k, v in decoder.items()]
    for folder, pre, norm in (("qwen2", split(QWEN), {"type": "NFC"}), ("gpt2", {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, None)):
        put(folder + "/vocab.json", model["vocab"])
        put(folder + "/merges.txt", "#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in model["merges"]))
        t = Tokenizer.from_str(json.dumps(whole(model, pre, tokens, norm)))
        put(folder + "/golden.json", golden(lambda x: t.encode(x).ids))
    put("qwen2/tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": False, "added_tokens_decoder": decoder})
    put("gpt2/added_tokens.json", {v["content"]: int(k) for k, v in decoder.items()})


def ranks():
    """Learnt by merging the most frequent pair of pieces; a few ranks are swapped so that a token may come before its parts."""
    import regex
    pieces = [list(bytes([b]) for b in m.group().encode()) for x in (TEXTS + CORPUS[:20]) for m in regex.finditer(KIMI, x, flags=regex.V1)]
    table = [bytes([b]) for b in range(256)]
    while len(table) < 640:
        count = {}
        for p in pieces:
            for a, b in zip(p, p[1:]):
                count[a + b] = count.get(a + b, 0) + 1
        best = max((c for c in count if c not in table), key=lambda c: (count[c], c))
        table.append(best)
        for p in pieces:
            i = 0
            while i + 1 < len(p):
                if p[i] + p[i + 1] == best:
                    p[i:i + 2] = [best]
                i += 1
    for i in range(300, 600, 7):
        table[i], table[i + 3] = table[i + 3], table[i]
    decoder = added(len(table))
    put("tiktoken/tiktoken.model", "".join(base64.b64encode(t).decode() + f" {i}\n" for i, t in enumerate(table)))
    put("tiktoken/tokenizer_config.json", {"tokenizer_class": "TikTokenTokenizer", "added_tokens_decoder": decoder})
    e = tiktoken.Encoding("own", pat_str=KIMI, mergeable_ranks={t: i for i, t in enumerate(table)}, special_tokens={v["content"]: int(k) for k, v in decoder.items()})
    put("tiktoken/golden.json", golden(lambda x: e.encode(x, allowed_special="all")))


pretok_cases()
vocab_merges()
ranks()
