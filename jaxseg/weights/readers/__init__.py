"""Read weight files as flat NumPy arrays by name, without executing code from them and without their frameworks.

``read`` detects the format by the first bytes, not by the name: safetensors, PyTorch (zip, and the format before 1.6),
npz, Keras' HDF5, Detectron's pickles, Caffe, TFLite and ONNX models;
darknet's .weights, which have no such bytes, by their suffix. Nested containers are joined by dots; wrappers of
training programs (``state_dict``, ``model``) and prefixes of wrapped modules (``module.``) are removed. If the format
permits, the arrays are read-only views of the memory-mapped file.
"""

import json
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxseg.errors import BadInput
from jaxseg.weights.readers import pickle, torch
from jaxseg.weights.readers.caffe import read_caffemodel
from jaxseg.weights.readers.darknet import SUFFIX, read_darknet
from jaxseg.weights.readers.keras import read_hdf5, read_keras
from jaxseg.weights.readers.onnx import is_onnx, read_onnx
from jaxseg.weights.readers.tflite import MAGIC, read_tflite
from jaxseg.weights.readers.torch import read_stream, read_zip, unwrapped
from jaxseg.weights.readers.zip import checked_members

PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that wrappers of modules (data parallelism, compilation) put before every name."""

IN_FOLDER = (
    *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "diffusion_pytorch_model.safetensors"),
    *("weights.safetensors", "weights.npz"),
)
"""Names of a folder's weights, in order of preference."""


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the arrays of a file, or of a folder in the layout of Hugging Face.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.npz"
    >>> np.savez(path, kernel=np.ones(2, np.float32))
    >>> {name: array.tolist() for name, array in read(path).items()}
    {'kernel': [1.0, 1.0]}

    Raises:
      BadInput: the file is missing, damaged, of an unknown format, or holds anything but numbers and containers, or
        numbers that are not finite.
    """
    path = weights_in(Path(path))
    if not path.is_file():
        raise BadInput(f"there is no file of weights {str(path)!r}")
    try:
        kind, reader = _recognise(path)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    try:
        found = reader(path)
    except BadInput as error:
        raise BadInput(f"{path} cannot be imported: {error}") from error
    except Exception as error:  # whatever damage makes of a file: it must not reach the user as a traceback
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise BadInput(f"{path} is damaged or no {kind} ({reason})") from error
    for prefix in PREFIXES:
        while found and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    if not found:
        raise BadInput(f"{path} holds no arrays")
    _check_finite(found, path)
    return found


def weights_in(path: Path) -> Path:
    """Return the weight file in a folder in the layout of Hugging Face; a file is returned as it is.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "model.safetensors").touch()
    >>> weights_in(folder).name
    'model.safetensors'

    Raises:
      BadInput: the folder holds none.
    """
    if not path.is_dir():
        return path
    inside = next((path / name for name in IN_FOLDER if (path / name).is_file()), None)
    if inside is None:
        raise BadInput(f"folder {str(path)!r} holds no weights; there may be {', '.join(IN_FOLDER)}")
    return inside


def _recognise(path: Path) -> tuple[str, Callable[[Path], dict[str, np.ndarray]]]:
    """Return the format, by the first bytes, and its reader."""
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        return _recognise_zip(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "HDF5 file", read_hdf5
    if head[4:8] == MAGIC:
        return "TFLite model", read_tflite
    if head[:1] == b"\x80" and b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19" in head[:32]:
        return "file of torch before 1.6", read_stream
    if path.suffix == SUFFIX:
        return "darknet file", read_darknet
    if path.name.endswith(".safetensors.index.json"):
        return "index of safetensors files", _read_sharded
    if head[8:9] == b"{" and path.suffix != ".caffemodel":
        return "safetensors file", _read_safetensors
    if head[257:262] == b"ustar":
        raise BadInput(f"{path} is a tar archive; unpack it, or save the state_dict with torch 0.4 or newer")
    if head[:1] == b"\x80" or path.suffix in (".pkl", ".pickle"):
        return "pickle", _read_pickle
    if path.suffix == ".onnx" or is_onnx(head):
        return "ONNX model", read_onnx
    if path.suffix == ".caffemodel":
        return "Caffe model", read_caffemodel
    raise BadInput(
        f"{path} is of no known kind; there are safetensors, torch (.pth, .pt), npz, Keras (.h5, .keras), "
        "Caffe (.caffemodel), TFLite (.tflite), ONNX (.onnx), darknet (.weights) and Detectron (.pkl)"
    )


def _recognise_zip(path: Path) -> tuple[str, Callable[[Path], dict[str, np.ndarray]]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:
        raise BadInput(f"{path} is a damaged zip archive ({' '.join(str(error).split())[:120]})") from error
    if "model.weights.h5" in names:
        return "Keras file", read_keras
    if any(name.endswith(".npy") for name in names):
        return "npz file", _read_npz
    return "torch file", read_zip


def _read_pickle(path: Path) -> dict[str, np.ndarray]:
    """Read the model zoos of Detectron and Detectron2: a pickled dict of NumPy arrays."""
    with path.open("rb") as file:
        tree = pickle.load(file, {**pickle.CONTAINERS, **pickle.NUMPY})
    kinds = (pickle.Pickled,)
    found = pickle.walk(unwrapped(tree, kinds), kinds, lambda leaf: leaf.array.ndim)
    return _affine({name: leaf.array for name, leaf in found.items() if not name.endswith("_momentum")})


def _affine(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert Caffe2's AffineChannel ``_bn_s``, ``_bn_b`` to a BatchNorm of mean 0 and variance 1.

    Detectron folds a norm's statistics into its scale. The variance is reduced by detectron2's epsilon, which is added
    again later.
    """
    made = {}
    for name, scale in arrays.items():
        if name.endswith("_bn_s") and f"{name[:-1]}rm" not in arrays:
            made[f"{name[:-1]}rm"] = np.zeros_like(scale)
            made[f"{name[:-1]}riv"] = np.full_like(scale, 1 - 1e-5)
    return {**arrays, **made}


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        for name, info in checked_members(archive, path).items():
            if not name.endswith(".npy"):
                continue
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, fortran, dtype = header(file)
                if dtype.hasobject:
                    raise BadInput(f"its array {name[:80]!r} holds Python objects; weights are numbers")
                if dtype.kind in "US":
                    continue
                dtype = np.dtype(ml_dtypes.bfloat16) if dtype == np.dtype("V2") else dtype
                if dtype.kind not in "fiubV" or dtype.names or (dtype.kind == "V" and dtype != ml_dtypes.bfloat16):
                    raise BadInput(f"its array {name[:80]!r} is of dtype {dtype}; weights are real numbers")
                size = math.prod(shape) * dtype.itemsize
                if size > info.file_size:
                    raise BadInput(f"its array {name[:80]!r} of shape {list(shape)} has too few numbers")
                flat = np.frombuffer(file.read(size), dtype)
                file.read()  # up to the end, where the checksum is compared
                found[name.removesuffix(".npy")] = flat.reshape(shape, order="F" if fortran else "C")
    return found


SAFETENSORS: Mapping[str, np.dtype] = {
    **{code: np.dtype(name) for code, name in (("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2"), ("BOOL", "?"))},
    **{code: np.dtype(name) for code, name in (("I64", "<i8"), ("I32", "<i4"), ("I16", "<i2"), ("I8", "i1"))},
    **{code: np.dtype(name) for code, name in (("U64", "<u8"), ("U32", "<u4"), ("U16", "<u2"), ("U8", "u1"))},
    "BF16": torch.DTYPES["bfloat16"],
    "F8_E4M3": torch.DTYPES["float8_e4m3fn"],
    "F8_E5M2": torch.DTYPES["float8_e5m2"],
}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Return views of the file at the offsets in its header, after the library has checked the header."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as checked:
        names = list(checked.keys())
    whole = np.memmap(path, np.uint8, "r")
    length = int.from_bytes(bytes(whole[:8]), "little")
    header: dict[str, Any] = json.loads(bytes(whole[8 : 8 + length]))
    data, found = whole[8 + length :], {}
    for name in names:
        entry = header[name]
        dtype = SAFETENSORS.get(entry["dtype"])
        if dtype is None:
            raise BadInput(f"its array {name[:80]!r} is of dtype {entry['dtype']}; weights are real numbers")
        begin, end = entry["data_offsets"]
        found[name] = np.asarray(data[begin:end]).view(dtype).reshape(entry["shape"])
    return found


def _read_sharded(path: Path) -> dict[str, np.ndarray]:
    names = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    found: dict[str, np.ndarray] = {}
    for name in sorted(names):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise BadInput(f"it leads elsewhere: {name[:80]!r}")
        found |= _read_safetensors(path.with_name(name))
    return found


def _check_finite(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    for name, array in arrays.items():
        if array.dtype.kind not in "fV" or array.size == 0:
            continue
        values = array.astype(np.float32) if array.dtype.kind == "V" else array
        if not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise BadInput(f"{path} cannot be imported: {count} of the {array.size} numbers of {name!r} are not finite")
