"""PyTorch files without PyTorch: the zip format of 1.6 and later, and the stream of pickles before it.

Tensors are views of the memory-mapped file, shared storages and strides included.
"""

import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxseg.errors import BadInput
from jaxseg.weights.readers import pickle
from jaxseg.weights.readers.pickle import Word
from jaxseg.weights.readers.zip import checked_members, mapped

MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of a file before 1.6."""

LARGEST_EXPANSION = 1 << 20
"""Elements that a tensor may have beyond those of its storage (stride 0 repeats them)."""

Buffer = Callable[["Storage"], np.ndarray]


@dataclass(frozen=True, eq=False)
class Storage:
    """A flat piece of memory that tensors view: its key in the file, dtype (None: bytes), count and offset.

    >>> Storage("0", STORAGES["torch.HalfStorage"], count=6).dtype
    dtype('float16')
    """

    key: str
    dtype: np.dtype | None
    count: int
    begin: int = 0


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor as described in the file; counts in elements.

    >>> storage = Storage("0", np.dtype(np.int32), count=6)
    >>> transposed = Tensor(storage, np.dtype(np.int32), offset=0, size=(2, 3), stride=(1, 2))
    >>> _view(transposed, lambda storage: np.arange(6, dtype=np.int32).view(np.uint8)).tolist()
    [[0, 2, 4], [1, 3, 5]]
    """

    storage: Storage
    dtype: np.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_zip(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file written by ``torch.save`` as a zip.

    >>> import tempfile
    >>> from jaxseg.export.torch import write_state
    >>> path = Path(tempfile.mkdtemp()) / "a.pth"
    >>> write_state(path, {"conv.weight": np.ones((4, 2, 3, 3), np.float32)})
    >>> {name: array.shape for name, array in read_zip(path).items()}
    {'conv.weight': (4, 2, 3, 3)}

    Raises:
      BadInput: the file holds anything but tensors, containers and numbers, or is inconsistent.
    """
    with zipfile.ZipFile(path) as archive:
        members = checked_members(archive, path)
        pickles = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise BadInput("it holds no data.pkl, or several")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}constants.pkl" in members:
            raise BadInput("it is a TorchScript program; save the module's state_dict() instead")
        if f"{root}byteorder" in members and archive.read(f"{root}byteorder").strip() != b"little":
            raise BadInput("it was written on a big-endian machine; save it anew on another")
        with archive.open(pickles[0]) as file:
            tree = _load(file)

        buffers: dict[str, np.ndarray] = {}

        def buffer(storage: Storage) -> np.ndarray:
            info = members.get(f"{root}data/{storage.key}")
            if info is None:
                raise BadInput(f"storage {storage.key[:40]!r} is not in the file")
            if storage.key not in buffers:
                buffers[storage.key] = mapped(path, info)
            return buffers[storage.key]

        return _resolve(tree, buffer)


def read_stream(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file written by torch before 1.6.

    >>> import tempfile
    >>> from pickle import dumps
    >>> path = Path(tempfile.mkdtemp()) / "a.pth"
    >>> parts = (MAGIC, 1001, {"little_endian": True}, {"weight": np.ones(2)}, [])
    >>> _ = path.write_bytes(b"".join(dumps(part) for part in parts))
    >>> {name: array.tolist() for name, array in read_stream(path).items()}
    {'weight': [1.0, 1.0]}

    Raises:
      BadInput: see ``read_zip``.
    """
    with path.open("rb") as file:
        if pickle.load(file, {}) != MAGIC:
            raise BadInput("it is a pickle of something else than torch's")
        version, system = (pickle.load(file, {}) for _ in range(2))
        if version != 1001 or not system["little_endian"]:
            raise BadInput("it is of a version or a byte order that is not known")
        storages: dict[str, Storage] = {}
        tree = _load(file, storages)
        keys = pickle.load(file, {})
        places: dict[str, tuple[int, int]] = {}
        whole = np.memmap(path, np.uint8, "r")
        for key in keys:
            storage = storages.get(key)
            if storage is None:
                raise BadInput(f"storage {str(key)[:40]!r} belongs to no tensor")
            count = int.from_bytes(file.read(8), "little")
            size = count * (storage.dtype.itemsize if storage.dtype else 1)
            begin = file.tell()
            if begin + size > whole.size:
                raise EOFError("the file ends within its tensors")
            places[key] = (begin, size)
            file.seek(begin + size)

        def buffer(storage: Storage) -> np.ndarray:
            begin, size = places[storage.key]
            skip = storage.begin * (storage.dtype.itemsize if storage.dtype else 1)
            return whole[begin + skip : begin + size]

        return _resolve(tree, buffer)


def _load(file: Any, seen: dict[str, Storage] | None = None) -> Any:
    def persistent(identity: Any) -> Storage:
        kind, word, key, _, count, *view = identity
        if kind != "storage" or not isinstance(word, Word) or word.name not in STORAGES or not isinstance(key, str):
            raise BadInput(f"its pickle refers to a {str(kind)[:40]!r}, which weights do not need")
        dtype, begin = STORAGES[word.name], 0
        if seen is not None:
            seen[key] = Storage(key, dtype, count)
        if view and view[0] is not None:
            _, begin, count = view[0]
        if type(count) is not int or type(begin) is not int or count < 0 or begin < 0:
            raise BadInput("a storage has no size")
        return Storage(key, dtype, count, begin)

    return pickle.load(file, WORDS, persistent)


def _resolve(tree: Any, buffer: Buffer) -> dict[str, np.ndarray]:
    kinds = (Tensor, pickle.Pickled)
    found = pickle.walk(unwrapped(tree, kinds), kinds, _axes)
    return {name: _view(leaf, buffer) if isinstance(leaf, Tensor) else leaf.array for name, leaf in found.items()}


def _axes(leaf: Any) -> int:
    return len(leaf.size) if isinstance(leaf, Tensor) else leaf.array.ndim


WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "blobs", "params"),
    *("module", "ema_state_dict", "model_ema"),
)
"""Under these names training programs put the weights beside other things."""


def unwrapped(tree: Any, leaf: tuple[type, ...]) -> Any:
    """Return the state dict inside a training checkpoint, or the tree itself.

    >>> unwrapped({"epoch": 3, "state_dict": {"weight": 1.0}}, (float,))
    {'weight': 1.0}
    """
    for _ in range(4):
        if not isinstance(tree, dict):
            break
        inner = next((tree[name] for name in WRAPPERS if isinstance(tree.get(name), dict)), None)
        if not inner or not any(isinstance(value, (*leaf, dict)) for value in inner.values()):
            break
        tree = inner
    return tree


def _view(tensor: Tensor, buffer: Buffer) -> np.ndarray:
    """Return the tensor's elements, checked to lie within its storage."""
    raw, storage = buffer(tensor.storage), tensor.storage
    declared = storage.count * (storage.dtype.itemsize if storage.dtype else 1)
    if raw.size < declared:
        raise BadInput(f"storage {storage.key[:40]!r} has {raw.size} bytes instead of {declared}")
    have = declared // tensor.dtype.itemsize
    elements = math.prod(tensor.size)
    reach = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride, strict=True))
    if elements and reach >= have:
        raise BadInput(f"a tensor of shape {list(tensor.size)} reaches beyond its storage of {have} elements")
    if elements > have + LARGEST_EXPANSION:
        raise BadInput(f"a tensor of shape {list(tensor.size)} repeats {have} elements; it would fill the memory")
    if not elements:
        return np.zeros(tensor.size, tensor.dtype)
    flat = raw[: have * tensor.dtype.itemsize].view(tensor.dtype)
    strides = [step * tensor.dtype.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.size, strides, writeable=False)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any, dtype: np.dtype | None = None) -> Tensor:
    del rest
    dtype = storage.dtype if dtype is None and isinstance(storage, Storage) else dtype
    counts = (offset, *size, *stride)
    sound = isinstance(storage, Storage) and len(size) == len(stride) <= 32
    if dtype is None or not sound or not all(type(n) is int and 0 <= n < 1 << 48 for n in counts):
        raise BadInput("a tensor's sizes or strides are none")
    return Tensor(storage, dtype, offset, tuple(size), tuple(stride))


def _tensor_of_dtype(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> Tensor:
    known = DTYPES.get(dtype.name.removeprefix("torch.")) if isinstance(dtype, Word) else None
    return _tensor(storage, offset, size, stride, grad, hooks, *rest, dtype=known)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _from_type(make: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    if not isinstance(make, Word) or make.call is None:
        raise BadInput("a tensor of a class of its own")
    del kind
    return make.call(*arguments)


DTYPES: Mapping[str, np.dtype] = {
    **{name: np.dtype(name) for name in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8")},
    **{name: np.dtype(name) for name in ("uint16", "uint32", "uint64", "bool")},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")},
}

STORAGES: Mapping[str, np.dtype | None] = {
    "torch.DoubleStorage": DTYPES["float64"],
    "torch.FloatStorage": DTYPES["float32"],
    "torch.HalfStorage": DTYPES["float16"],
    "torch.BFloat16Storage": DTYPES["bfloat16"],
    "torch.LongStorage": DTYPES["int64"],
    "torch.IntStorage": DTYPES["int32"],
    "torch.ShortStorage": DTYPES["int16"],
    "torch.CharStorage": DTYPES["int8"],
    "torch.ByteStorage": DTYPES["uint8"],
    "torch.BoolStorage": DTYPES["bool"],
    "torch.storage.UntypedStorage": None,
    "torch.UntypedStorage": None,
}
STORAGES = {**STORAGES, **{name.replace("torch.", "torch.cuda."): dtype for name, dtype in STORAGES.items()}}

WORDS: Mapping[str, Word] = {
    **pickle.CONTAINERS,
    **pickle.NUMPY,
    **{
        word.name: word
        for word in (
            *(Word(name) for name in STORAGES),
            *(Word(f"torch.{name}") for name in DTYPES),
            Word("torch._utils._rebuild_tensor", _tensor),
            Word("torch._utils._rebuild_tensor_v2", _tensor),
            Word("torch._utils._rebuild_tensor_v3", _tensor_of_dtype),
            Word("torch._utils._rebuild_parameter", _parameter),
            Word("torch._utils._rebuild_parameter_with_state", _parameter),
            Word("torch._tensor._rebuild_from_type_v2", _from_type),
            Word("torch.Tensor"),
            Word("torch.nn.parameter.Parameter"),
            Word("torch.Size", tuple),
            Word("torch.device", lambda *_: None),
        )
    },
}
"""All that a file of torch's may name."""
