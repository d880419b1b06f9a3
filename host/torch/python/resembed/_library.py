# SPDX-License-Identifier: Apache-2.0
"""Finds libresembed_torch.so and registers torch.ops.resembed, once a process."""
import os
import re
from pathlib import Path
from typing import Optional

import torch

LIBRARY = "libresembed_torch.so"
VARIABLE = "RESEMBED_TORCH_LIBRARY"


def _minor(version: str) -> str:
    """'2.11' of '2.11.0+cu130'."""
    return ".".join(version.split(".")[:2])


def built_for(path: Path) -> Optional[str]:
    """The version of torch a library was built for, from the file beside it ('<library>.torch'); None when
    there is no such file."""
    note = path.with_name(path.name + ".torch")
    return note.read_text(encoding="utf-8").strip() if note.is_file() else None


def find() -> Path:
    """The library named by RESEMBED_TORCH_LIBRARY, else the one beside this package.

    Raises ImportError when there is none.
    """
    given = os.environ.get(VARIABLE)
    path = Path(given) if given else Path(__file__).resolve().parent / LIBRARY
    if not path.is_file():
        where = f"{VARIABLE} is {given}" if given else f"{path} is missing"
        raise ImportError(f"resembed: {where}; needs the library built for torch {_minor(torch.__version__)}: "
                          f"install the wheel, or set {VARIABLE} to build/torch/{LIBRARY}")
    return path.resolve()


def _loaded_copy() -> Optional[str]:
    """The libresembed_torch.so in this process, where the system can say; '' where it cannot."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            found = re.findall(r"(/\S*libresembed_torch[^/\s]*\.so)", maps.read())
    except OSError:
        return ""
    return os.path.realpath(found[0]) if found else None


def load() -> Path:
    """Loads the library and returns its path; a second call does nothing.

    Raises ImportError when it is missing, was built for another minor version of torch, or when another copy
    of it has registered the operations already (one process holds one copy).
    """
    path = find()
    if torch._C._jit_get_schemas_for_operator("resembed::embedding_bag"):
        other = _loaded_copy()
        if other is not None and other not in ("", str(path)):
            raise ImportError(f"resembed: torch.ops.resembed is registered by {other} already, and {path} would "
                              f"register it again; needs one copy: set {VARIABLE} to the one that is loaded")
        return path
    built = built_for(path)
    if built is not None and _minor(built) != _minor(torch.__version__):
        raise ImportError(f"resembed: {path} was built for torch {built}; needs one for the torch that runs, "
                          f"{torch.__version__}: build it again in this environment")
    try:
        torch.ops.load_library(str(path))
    except (OSError, RuntimeError) as error:
        hint = "; it looks like one for another version" if "undefined symbol" in str(error) else ""
        raise ImportError(f"resembed: {path} does not load with torch {torch.__version__}{hint}: {error}") from error
    return path
