"""PyTorch state dicts, written without PyTorch; read them with ``torch.load(path, weights_only=True)``.

Names and layouts are those of the implementation that the rules are for; its ``load_state_dict`` accepts them with
``strict=True``, or where it keeps parts that it never uses (:func:`jaxseg.weights.names.kept_elsewhere`) with False.
"""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.errors import BadInput
from jaxseg.files import atomic
from jaxseg.types import Rules
from jaxseg.weights.names import restore
from jaxseg.weights.readers import read

KINDS = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


def write(path: Path, variables: Any, rules: Rules) -> None:
    r"""Write ``variables`` under the names that ``rules`` import.

    >>> import tempfile
    >>> variables, rules = {"params": {"conv": {"kernel": np.ones((3, 3, 2, 4))}}}, ((r"0\.weight", "conv/kernel"),)
    >>> path = Path(tempfile.mkdtemp()) / "a.pth"
    >>> write(path, variables, rules)
    >>> {name: array.shape for name, array in read(path).items()}
    {'0.weight': (4, 2, 3, 3)}

    Raises:
      BadInput: a rule is not invertible.
    """
    write_state(path, restore(variables, rules))


def verify(path: Path, variables: Any, rules: Rules) -> float:
    r"""Return the largest difference between the file's numbers and the expected ones.

    >>> import tempfile
    >>> variables, rules = {"params": {"conv": {"kernel": np.ones((3, 3, 2, 4))}}}, ((r"0\.weight", "conv/kernel"),)
    >>> path = Path(tempfile.mkdtemp()) / "a.pth"
    >>> write(path, variables, rules)
    >>> verify(path, variables, rules)
    0.0
    """
    found, wanted = read(path), restore(variables, rules)
    if found.keys() != wanted.keys():
        raise BadInput(f"{path} holds other weights than those that were written")
    return max(float(np.abs(found[name].astype(np.float64) - wanted[name]).max(initial=0)) for name in wanted)


def write_state(path: Path, state: Mapping[str, np.ndarray]) -> None:
    """Write a state dict in the format of ``torch.save``: a zip of one pickle and the tensors' bytes.

    >>> import tempfile
    >>> from jaxseg.weights.readers import read
    >>> path = Path(tempfile.mkdtemp()) / "a.pth"
    >>> write_state(path, {"weight": np.ones(2, np.float32)})
    >>> read(path)["weight"].tolist()
    [1.0, 1.0]
    """
    with atomic(path) as part, zipfile.ZipFile(part, "w") as file:
        file.writestr("archive/data.pkl", _pickle(state))
        file.writestr("archive/byteorder", "little")
        for key, value in enumerate(state.values()):
            little = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False)
            file.writestr(f"archive/data/{key}", little.tobytes())
        file.writestr("archive/version", "3\n")


def _pickle(state: Mapping[str, np.ndarray]) -> bytes:
    """Return the instructions that build the dict; see Python's ``pickletools`` for the opcodes."""
    out = [b"\x80\x02}("]
    for key, (name, value) in enumerate(state.items()):
        kind = KINDS.get(value.dtype.name)
        if kind is None:
            raise BadInput(f"{name} is of dtype {value.dtype}, which torch's files do not have")
        strides = [step // value.dtype.itemsize for step in np.empty(value.shape, value.dtype).strides]
        out += [
            _text(name),
            b"ctorch._utils\n_rebuild_tensor_v2\n(",
            *(b"(", _text("storage"), f"ctorch\n{kind}\n".encode(), _text(str(key)), _text("cpu"), _number(value.size)),
            b"tQ",
            _number(0),
            *(b"(", *map(_number, value.shape), b"t"),
            *(b"(", *map(_number, strides), b"t"),
            b"\x89ccollections\nOrderedDict\n)RtR",
        ]
    return b"".join([*out, b"u."])


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if value < 1 << 31 else b"\x8a\x08" + struct.pack("<q", value)
