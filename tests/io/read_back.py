# SPDX-License-Identifier: Apache-2.0
"""Reads or writes a safetensors file with nothing but json and struct: the format as others see it."""
import json
import struct
import sys


def read(path):
    with open(path, "rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(header_bytes))
        data = file.read()
    assert header_bytes % 8 == 0, header_bytes
    assert header.pop("__metadata__") == {"who": "resembed"}
    assert sorted(header) == ["ids", "table"], header
    spans = sorted(entry["data_offsets"] for entry in header.values())
    assert spans[0][0] == 0 and spans[0][1] == spans[1][0] and spans[1][1] == len(data), spans
    table, ids = header["table"], header["ids"]
    assert (table["dtype"], table["shape"]) == ("F32", [3, 4])
    assert (ids["dtype"], ids["shape"]) == ("I64", [3])
    begin, end = table["data_offsets"]
    assert list(struct.unpack("<12f", data[begin:end])) == [k + 0.5 for k in range(12)]
    begin, end = ids["data_offsets"]
    assert list(struct.unpack("<3q", data[begin:end])) == [1, -2, 1 << 40]


def write(path):
    header = json.dumps({"w": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}}, indent=1).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + struct.pack("<2d", 0.25, -3))


{"read": read, "write": write}[sys.argv[1]](sys.argv[2])
