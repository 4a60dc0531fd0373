"""orthogonal.py END FILE...: the tensors of the files whose names end with END: how many there are, and whether each is an
orthogonal matrix to 1e-6."""
import json
import struct
import sys

n, good = 0, True
for path in sys.argv[2:]:
    with open(path, "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    for name, t in json.loads(data[8:8 + size]).items():
        if not name.endswith(sys.argv[1]):
            continue
        d = t["shape"][0]
        at = 8 + size + t["data_offsets"][0]
        m = struct.unpack("<%df" % (d * d), data[at:at + 4 * d * d])
        n += 1
        for i in range(d):
            for j in range(d):
                good = good and abs(sum(m[i * d + k] * m[j * d + k] for k in range(d)) - (i == j)) < 1e-6
print(n, "orthogonal" if good else "not orthogonal")
