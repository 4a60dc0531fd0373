"""compare_weights.py WANT GOT [ROOM|share=SHARE]: two .safetensors files with the same tensors, equal in every integer and 16-bit float;
float32 values (and those that deq_scale keeps as the bits of an integer) within 1e-6 of each other. With ROOM: within ROOM
of the tensor's largest value, and integers and 16-bit floats may be the next one in one of a thousand places. With share=SHARE: such a share
of a tensor's 16-bit values may be others, as long as as many are 0. Prints what is not so."""
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


def near(a, b, room):
    if room is None:
        return all(abs(x - y) <= TOLERANCE * abs(x) for x, y in zip(a, b))
    most = max(abs(x) for x in a)
    return all(abs(x - y) <= room * most for x, y in zip(a, b))


def codes_near(dtype, a, b, room):
    kind = {"I8": "b", "I32": "i", "BF16": "H", "F16": "H"}.get(dtype)  # the next float has the next bits
    if room is None or not kind:
        return False
    form = "<%d%s" % (len(a) // struct.calcsize(kind), kind)
    off = [abs(x - y) for x, y in zip(struct.unpack(form, a), struct.unpack(form, b))]
    return max(off) <= 1 and sum(off) <= max(1, len(off) // 1000)


def mostly_equal(a, b, share):
    x, y = (struct.unpack("<%dH" % (len(d) // 2), d) for d in (a, b))
    zeros = [sum(v & 0x7fff == 0 for v in d) for d in (x, y)]
    return zeros[0] == zeros[1] and sum(p != q for p, q in zip(x, y)) <= share * len(x)


def factors_near(a, b):
    """BF16 factors of a branch: each pair's sign is free, and one value in fifty may be the next one, or as near to 0."""
    size = [struct.unpack("<%df" % (len(d) // 2), b"".join(b"\0\0" + bytes([d[i], d[i + 1] & 0x7f]) for i in range(0, len(d), 2)))
            for d in (a, b)]
    off = [abs(x - y) > 0.008 * x + 1e-5 for x, y in zip(*size)]
    return not any(off) and sum(x != y for x, y in zip(*size)) <= max(2, len(off) // 50)


def main():
    share = float(sys.argv[3][6:]) if len(sys.argv) > 3 and sys.argv[3].startswith("share=") else None
    room = float(sys.argv[3]) if len(sys.argv) > 3 and share is None else None
    (want_meta, want), (got_meta, got) = load(sys.argv[1]), load(sys.argv[2])
    if want_meta != got_meta or list(want) != list(got):
        print("other tensors, in another order, or other metadata")
        return
    for name, (dtype, shape, data) in want.items():
        if got[name][:2] != (dtype, shape):
            print(name, "has another dtype or shape")
        elif "svd_lowrank" in name:
            if not factors_near(data, got[name][2]):
                print(name, "differs")
        elif got[name][2] != data:
            if share is not None:
                if not mostly_equal(data, got[name][2], share):
                    print(name, "differs")
                continue
            a, b = floats(name, dtype, data), floats(name, dtype, got[name][2])
            if not (codes_near(dtype, data, got[name][2], room) if a is None else near(a, b, room)):
                print(name, "differs")


main()
