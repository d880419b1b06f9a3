#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rows of item, neighbor, weight between Parquet or Arrow files and the .tsv of resembed-graph. Needs pyarrow.

  edges.py EDGES.parquet EDGES.tsv [--scale S]   for resembed-graph import; S: weights are rounded(weight * S)
  edges.py EDGES.tsv EDGES.parquet               of resembed-graph export

.parquet, or .arrow and .feather (Arrow's file format). Columns are found by name; others are ignored. Items are
strings or integers, weights integers > 0 (real ones need --scale). Batches of 65,536 rows are in memory at a time.
What is refused is said with its row, from 1; resembed-graph import then checks duplicates and items.
"""
import argparse
import os
import sys

COLUMNS = ("item", "neighbor", "weight")
ROWS = 65536
ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
UNESCAPED = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}


class Refused(Exception):
    """A sentence for the user."""


def name_of(value, column, row):
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise Refused(f"row {row}: {column} is {value!r}; needs a string or an integer")
    if value == "":
        raise Refused(f"row {row}: {column} is empty; needs a name")
    return str(value).translate(ESCAPES)


def weight_of(value, scale, row):
    if value is None or isinstance(value, (bool, str)):
        raise Refused(f"row {row}: weight is {value!r}; needs a number > 0")
    try:
        count = round(value * scale) if scale else int(value)
    except (OverflowError, ValueError):
        raise Refused(f"row {row}: weight is {value!r}; needs a number > 0") from None
    if not scale and count != value:
        raise Refused(f"row {row}: weight is {value!r}; needs an integer, or --scale")
    if not 0 < count < 2**63:
        raise Refused(f"row {row}: weight is {value!r}; needs 1 to 2^63 - 1" + (" after --scale" if scale else ""))
    return count


def read_batches(path):
    """Lists of the three columns, a batch at a time."""
    if path.endswith(".parquet"):
        import pyarrow.parquet
        file = pyarrow.parquet.ParquetFile(path)
        names, batches = file.schema_arrow.names, lambda: file.iter_batches(ROWS, columns=list(COLUMNS))
    else:
        import pyarrow
        file = pyarrow.ipc.open_file(pyarrow.memory_map(path))
        names = file.schema.names
        batches = lambda: (file.get_batch(i) for i in range(file.num_record_batches))
    missing = [column for column in COLUMNS if names.count(column) != 1]
    if missing:
        raise Refused(f"has the columns {', '.join(names)}; needs {', '.join(COLUMNS)} once each")
    for batch in batches():
        yield [batch.column(batch.schema.get_field_index(column)).to_pylist() for column in COLUMNS]


def to_tsv(source, target, scale):
    row = 0
    with open(target, "w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join(COLUMNS) + "\n")
        for items, neighbors, weights in read_batches(source):
            for item, neighbor, weight in zip(items, neighbors, weights):
                row += 1
                file.write(f"{name_of(item, 'item', row)}\t{name_of(neighbor, 'neighbor', row)}\t"
                           f"{weight_of(weight, scale, row)}\n")


def unescape(text):
    parts = text.split("\\")
    out, at = [parts[0]], 1
    while at < len(parts):
        if parts[at] == "" and at + 1 < len(parts):  # an escaped backslash
            out.append("\\" + parts[at + 1])
            at += 2
            continue
        out.append(UNESCAPED[parts[at][0]] + parts[at][1:])
        at += 1
    return "".join(out)


def read_tsv(path):
    """(item, neighbor, weight) of the lines behind the header."""
    with open(path, encoding="utf-8", newline="\n") as file:
        if file.readline() != "\t".join(COLUMNS) + "\n":
            raise Refused(f"line 1: needs the header {', '.join(COLUMNS)}")
        for number, line in enumerate(file, 2):
            fields = line.rstrip("\n").split("\t")
            try:
                item, neighbor, weight = fields
                yield unescape(item), unescape(neighbor), int(weight)
            except (ValueError, KeyError, IndexError):
                raise Refused(f"line {number}: needs item, neighbor and a whole weight") from None


def from_tsv(source, target):
    import pyarrow
    import pyarrow.parquet
    schema = pyarrow.schema([("item", pyarrow.string()), ("neighbor", pyarrow.string()), ("weight", pyarrow.int64())])
    make = (pyarrow.parquet.ParquetWriter if target.endswith(".parquet") else pyarrow.ipc.new_file)(target, schema)
    with make as writer:
        rows = []
        for row in read_tsv(source):
            rows.append(row)
            if len(rows) == ROWS:
                writer.write_batch(pyarrow.record_batch(list(zip(*rows)), schema=schema))
                rows = []
        if rows:
            writer.write_batch(pyarrow.record_batch(list(zip(*rows)), schema=schema))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--scale", type=float, default=0)
    arguments = parser.parse_args()
    source, target = arguments.source, arguments.target
    tables = (".parquet", ".arrow", ".feather")
    if source.endswith(tables) == target.endswith(tables):
        parser.error("needs a .tsv on one side and .parquet, .arrow or .feather on the other")
    if not 0 <= arguments.scale < float("inf"):
        parser.error(f"--scale is {arguments.scale}; needs a number > 0")
    try:
        if source.endswith(tables):
            to_tsv(source, target, arguments.scale)
        else:
            from_tsv(source, target)
    except ImportError as error:
        sys.exit(f"edges.py: {error}; needs pyarrow")
    except Refused as error:
        if os.path.exists(target):
            os.unlink(target)
        sys.exit(f"edges.py: {source}: {error}")
    except (OSError, ValueError) as error:  # what pyarrow says of files is a ValueError
        sys.exit(f"edges.py: {source}: {error}")


if __name__ == "__main__":
    main()
