"""A model whose names hold what a terminal obeys: evil_names.py SOURCE OUT. Makes the folder OUT/<evil>, prints its path; with
--scan FILE...: prints each byte of the files that a terminal would obey, and exits 1 if there is one."""
import json, os, shutil, struct, sys
import unicodedata

EVIL = "e\x1b]0;x\x07\x1b[31m\u009b1m\u202eb\x7f"
TURNS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def scan(files):
    bad = 0
    for f in files:
        raw = open(f, "rb").read()
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as e:
            print("%s: byte %d is no UTF-8: %r" % (f, e.start, raw[max(0, e.start - 40):e.start + 10]))
            bad = 1
            continue
        for i, c in enumerate(text):
            if (unicodedata.category(c) == "Cc" and c not in "\n\t") or c in TURNS:
                print("%s: U+%04X in %r" % (f, ord(c), text[max(0, i - 40):i + 10]))
                bad = 1
                break
    return bad


def evil_model(source, out):
    folder = os.path.join(out, EVIL)
    os.makedirs(out, exist_ok=True)
    shutil.copytree(source, folder)
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    config["model_type"] = EVIL
    config["architectures"] = [EVIL]
    config["torch_dtype"] = config.get("torch_dtype", "float32")
    config["tie_word_embeddings"] = False
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    path = os.path.join(folder, "model.safetensors")
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        body = f.read()
    header[EVIL + ".weight"] = {"dtype": "F32", "shape": [2, 2], "data_offsets": [len(body), len(body) + 16]}
    body += struct.pack("<4f", 1, float("nan"), 2, 3)
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)
    with open(os.path.join(folder, EVIL + ".jsonl"), "w") as f:
        f.write(json.dumps({"input_ids": list(range(1, 20))}) + "\n")
    print(folder)


if sys.argv[1] == "--scan":
    sys.exit(scan(sys.argv[2:]))
evil_model(*sys.argv[1:3])
