# SPDX-License-Identifier: Apache-2.0
"""safetensors files, as the library writes and reads them (resembed_save, resembed_file_open).

Needs nothing but torch: tensors go from their memory to the file and back.
"""
import ctypes
import json
import os
import tempfile
from typing import Any, Dict, Mapping, Optional, Tuple, Union

import torch
from torch import Tensor

Path = Union[str, "os.PathLike[str]"]

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int32: "I32",
          torch.int64: "I64", torch.uint16: "U16", torch.float64: "F64", torch.uint8: "U8"}
_TYPES = {name: dtype for dtype, name in _NAMES.items()}
_MAX_HEADER = 100_000_000
_MAX_DIMS = 8


def _memory(tensor: Tensor) -> Any:
    """The bytes of a contiguous CPU tensor, without a copy; the caller keeps the tensor alive."""
    n_bytes = tensor.numel() * tensor.element_size()
    return (ctypes.c_char * n_bytes).from_address(tensor.data_ptr()) if n_bytes else b""


def save_file(tensors: Mapping[str, Tensor], path: Path, metadata: Optional[Mapping[str, str]] = None) -> None:
    """Writes tensors and string metadata to `path`.

    The file is written beside its name and then renamed: a reader never sees half a file. Tensors on a device
    are copied to the host one at a time.

    Raises ValueError for a dtype the format does not have, a tensor of more than 8 dimensions or metadata that
    are not strings; OSError when the file cannot be written.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise ValueError(f"save_file: {name}.dtype is {tensor.dtype}; needs one of "
                             + ", ".join(str(dtype) for dtype in _NAMES))
        if tensor.dim() > _MAX_DIMS:
            raise ValueError(f"save_file: {name} has {tensor.dim()} dimensions; needs at most {_MAX_DIMS}")
        if name == "__metadata__":
            raise ValueError("save_file: a tensor's name is __metadata__; needs another one, that is reserved")
    header: Dict[str, Any] = {}
    if metadata:
        if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
            raise ValueError("save_file: metadata has a value that is no string; needs strings")
        header["__metadata__"] = dict(metadata)
    # Wide elements first: with a header of 8n bytes every tensor is aligned to its element.
    names = sorted(tensors, key=lambda name: -tensors[name].element_size())
    at = 0
    for name in names:
        tensor = tensors[name]
        end = at + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    target = os.fspath(path)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target) or ".", prefix=os.path.basename(target) + ".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                host = tensors[name].detach().cpu().contiguous()  # alive while its memory is read
                file.write(_memory(host))
        mask = os.umask(0)  # mkstemp gives 0600: what open() would have given
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _check_header(path: str, header: Any, n_bytes: int) -> None:
    def malformed(what: str) -> ValueError:
        return ValueError(f"load_file: {path} is malformed: {what}")

    if not isinstance(header, dict):
        raise malformed("its header is no object")
    spans = []
    for name, entry in header.items():
        if not isinstance(entry, dict) or sorted(entry) != ["data_offsets", "dtype", "shape"]:
            raise malformed(f"{name} has other fields than dtype, shape and data_offsets")
        if entry["dtype"] not in _TYPES:
            raise ValueError(f"load_file: {name}.dtype is {entry['dtype']}; needs one of {', '.join(_TYPES)}")
        shape, span = entry["shape"], entry["data_offsets"]
        if not all(type(size) is int and size >= 0 for size in shape) or len(span) != 2:
            raise malformed(f"{name} has shape {shape} at {span}")
        expected = _TYPES[entry["dtype"]].itemsize
        for size in shape:
            expected *= size
        if span[1] - span[0] != expected:
            raise malformed(f"{name} takes {span[1] - span[0]} bytes, its shape {expected}")
        spans.append(tuple(span))
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise malformed(f"there is a hole or an overlap at byte {at}")
        at = end
    if at != n_bytes:
        raise malformed(f"its tensors take {at} bytes of {n_bytes}")


def load_file(path: Path) -> Tuple[Dict[str, Tensor], Dict[str, str]]:
    """(tensors on the CPU, metadata) of a safetensors file.

    Raises ValueError when the file is malformed, before a tensor is read.
    """
    target = os.fspath(path)
    with open(target, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise ValueError(f"load_file: {target} is malformed: a header of {length} bytes in a file of {size}")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise ValueError(f"load_file: {target} is malformed: {error}") from error
        metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else {}
        _check_header(target, header, size - 8 - length)
        tensors = {}
        for name, entry in header.items():
            tensor = torch.empty(entry["shape"], dtype=_TYPES[entry["dtype"]])
            file.seek(8 + length + entry["data_offsets"][0])
            memory = _memory(tensor)
            if memory and file.readinto(memory) != len(memory):
                raise ValueError(f"load_file: {target} is malformed: {name} ends early")
            tensors[name] = tensor
    return tensors, metadata
