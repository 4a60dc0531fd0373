#!/usr/bin/env python3
"""compare_converted.py GOT WANT [documents|values]: the same tensors with the same bytes in two folders, in whichever files; exits 1 with the
first difference. documents: also every other file of WANT: the same document, or the same bytes. values: of BF16, -0 is 0."""
import glob, json, os, struct, sys


def tensors(folder):
    out = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        data = open(path, "rb").read()
        n = struct.unpack("<Q", data[:8])[0]
        for name, t in json.loads(data[8 : 8 + n]).items():
            if name != "__metadata__":
                a, b = t["data_offsets"]
                out[name] = (t["dtype"], t["shape"], data[8 + n + a : 8 + n + b])
    return out


got, want = sys.argv[1:3]
how = sys.argv[3] if len(sys.argv) > 3 else ""
a, b = tensors(got), tensors(want)
for name in sorted(set(a) ^ set(b)):
    sys.exit("%s is only in %s" % (name, got if name in a else want))
for name in b:
    x, y = a[name][2], b[name][2]
    if how == "values" and b[name][0] == "BF16":
        x, y = (struct.pack("<%dH" % (len(v) // 2), *(h if h != 0x8000 else 0 for h in struct.unpack("<%dH" % (len(v) // 2), v))) for v in (x, y))
    if a[name][:2] != b[name][:2] or x != y:
        sys.exit("%s: %s %s against %s %s" % (name, *a[name][:2], *b[name][:2]))
for name in sorted(os.listdir(want)) if how == "documents" else ():
    x, y = (open(os.path.join(d, name), "rb").read() for d in (got, want))
    if name.endswith(".json"):  # the original's order of names is another in each of its runs
        x, y = json.loads(x), json.loads(y)
    if x != y:
        sys.exit(name + " differs")
