"""payload.py FOLDER: bytes of all tensors in the .safetensors files of a folder and those below it, without their headers."""
import pathlib
import struct
import sys

n = 0
for path in pathlib.Path(sys.argv[1]).rglob("*.safetensors"):
    with open(path, "rb") as f:
        head = struct.unpack("<Q", f.read(8))[0]
    n += path.stat().st_size - 8 - head
print(n)
