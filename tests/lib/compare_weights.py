"""compare_weights.py WANT GOT: two .safetensors files with the same tensors, equal in every integer and 16-bit float; float32
values (and those that deq_scale keeps as the bits of an integer) within 1e-6 of each other. Prints what is not so."""
import json
import struct
import sys

TOLERANCE = 1e-6


def load(path):
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(n))
        data = f.read()
    meta = header.pop("__metadata__", None)
    return meta, {k: (v["dtype"], v["shape"], data[v["data_offsets"][0]:v["data_offsets"][1]]) for k, v in header.items()}


def floats(name, dtype, data):
    """The values that may differ in their last digits, or None."""
    if name.endswith("_offset"):  # whole numbers in a float
        return None
    if name.endswith(".deq_scale") and dtype == "I64":
        data = b"".join(data[i:i + 4] for i in range(0, len(data), 8))
    elif dtype != "F32":
        return None
    return struct.unpack("<%df" % (len(data) // 4), data)


def main():
    (want_meta, want), (got_meta, got) = load(sys.argv[1]), load(sys.argv[2])
    if want_meta != got_meta or list(want) != list(got):
        print("other tensors, in another order, or other metadata")
        return
    for name, (dtype, shape, data) in want.items():
        if got[name][:2] != (dtype, shape):
            print(name, "has another dtype or shape")
        elif got[name][2] != data:
            a, b = floats(name, dtype, data), floats(name, dtype, got[name][2])
            if a is None or any(not abs(x - y) <= TOLERANCE * abs(x) for x, y in zip(a, b)):
                print(name, "differs")


main()
