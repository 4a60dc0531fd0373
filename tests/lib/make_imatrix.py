#!/usr/bin/env python3
"""make_imatrix.py MODEL OUT: an importance matrix for the linears of a Hugging Face folder as llama.cpp writes it, OUT.dat as
before GGUF and OUT.gguf, and OUT.json with the score of each linear: the sum over columns of the mean squares of its inputs."""
import json
import random
import re
import struct
import sys

import read_exports


def gguf_names(name):
    layer, rest = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", name).groups()
    for pattern, tensors in read_exports.GGUF:
        if re.fullmatch(pattern, rest):
            return f"blk.{layer}.{re.sub(pattern, tensors[0], rest)}.weight"
    return None


def main():
    folder, out = sys.argv[1:]
    rng = random.Random(3)
    tensors, scores, chunks = {}, {}, 7
    for name, info in sorted(read_exports.header(folder).items()):
        if not re.match(r"model\.layers\.\d+\..*\.weight$", name) or len(info["shape"]) != 2:
            continue
        name = name[:-len(".weight")]
        tensor = gguf_names(name)
        if not tensor:
            continue
        expert = re.search(r"\.experts\.(\d+)\.", name)
        means = [struct.unpack("<f", struct.pack("<f", rng.random() * 4))[0] for _ in range(info["shape"][1])]
        tensors.setdefault(tensor, {})[int(expert.group(1)) if expert else 0] = means
        scores[name] = means
    with open(out + ".dat", "wb") as f:
        f.write(struct.pack("<i", len(tensors)))
        for tensor, parts in tensors.items():
            values = [m * chunks for e in sorted(parts) for m in parts[e]]
            f.write(struct.pack("<i", len(tensor)) + tensor.encode() + struct.pack("<ii", chunks, len(values)))
            f.write(struct.pack(f"<{len(values)}f", *values))
        f.write(struct.pack("<ii", chunks, 4) + b"text")

    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    tokens = 512 * chunks
    pairs = [text("general.type") + struct.pack("<I", 8) + text("imatrix"),
             text("imatrix.datasets") + struct.pack("<IIQ", 9, 8, 1) + text("text.txt"),
             text("imatrix.chunk_count") + struct.pack("<II", 4, chunks)]
    infos, data = [], b""

    def add(name, columns, rows, values):
        nonlocal data
        infos.append(text(name) + struct.pack("<IQQIQ", 2, columns, rows, 0, len(data)))
        data += struct.pack(f"<{len(values)}f", *values)
        data += b"\0" * (-len(data) % 32)

    for tensor, parts in tensors.items():
        order = sorted(parts)
        add(tensor + ".in_sum2", len(parts[order[0]]), len(order), [m * tokens for e in order for m in parts[e]])
        add(tensor + ".counts", 1, len(order), [tokens] * len(order))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join(pairs) + b"".join(infos)
    with open(out + ".gguf", "wb") as f:
        f.write(head + b"\0" * (-len(head) % 32) + data)
    with open(out + ".json", "w") as f:
        json.dump({n: sum(m) for n, m in scores.items()}, f)


main()
