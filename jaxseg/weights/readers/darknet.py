"""Darknet's .weights: bare numbers in the order of the layers of a .cfg, which must lie beside the file.

Layers with weights are counted from 0: ``conv0.weight`` (OIHW) with ``conv0.bias``, or with ``bn0.weight``,
``bn0.bias``, ``bn0.running_mean`` and ``bn0.running_var``; dense layers are ``fc24.weight`` (OI) and ``fc24.bias``.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.errors import BadInput

SUFFIX = ".weights"

WITHOUT_WEIGHTS = ("maxpool", "avgpool", "route", "shortcut", "upsample", "reorg", "dropout", "crop", "softmax", "cost")
HEADS = ("yolo", "region", "detection")

OF_FILES = {"dccea06f": (((81, 82), (135, 169), (344, 319)), ((23, 27), (37, 58), (81, 82)))}
"""Anchors that published files were trained with, by the first digits of their hashes, where their .cfg has others.

That of YOLOv3-tiny has mask 0,1,2 on the finer map; with 1,2,3 AP50 is 39.6 instead of 27.4 on 80 images of COCO.
"""

LARGEST = 1 << 20
"""Bytes of a .cfg, and bound of any number in it."""

Shape = tuple[int, int, int]
"""Channels, rows, columns."""


def read_darknet(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a .weights file by the names above.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.weights"
    >>> _ = path.with_suffix(".cfg").write_text("[net]\\nwidth=8\\nheight=8\\n[convolutional]\\nfilters=2\\nsize=1\\n")
    >>> header = np.asarray([0, 1, 0, 0], "<i4").tobytes()
    >>> _ = path.write_bytes(header + np.arange(8, dtype="<f4").tobytes())
    >>> {name: array.shape for name, array in read_darknet(path).items()}
    {'conv0.bias': (2,), 'conv0.weight': (2, 3, 1, 1)}

    Raises:
      BadInput: no .cfg lies beside the file, it is no network of known layers, or describes more or fewer numbers than
        there are.
    """
    cfg = cfg_beside(path)
    blobs = list(_blobs(read_cfg(cfg), cfg))
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    major, minor = (int.from_bytes(bytes(data[i : i + 4]), "little", signed=True) for i in (0, 4))
    transposed = major > 1000 or minor > 1000
    start = 20 if not transposed and major * 10 + minor >= 2 else 16
    have, want = (len(data) - start) / 4, sum(blob.count for blob in blobs)
    if have < want:
        most = "it is cut short, or the cfg is another network's"
        raise BadInput(f"it holds {max(math.floor(have), 0):,} numbers, {cfg.name} describes {want:,}: {most}")
    if have > want:
        raise BadInput(f"it holds {have:,.10g} numbers, {cfg.name} describes {want:,}: the cfg is another network's")
    flat, found, place = data[start:].view("<f4"), {}, 0
    for blob in blobs:
        part = flat[place : place + blob.count]
        backwards = transposed and blob.dense
        found[blob.name] = part.reshape(blob.shape[::-1]).T if backwards else part.reshape(blob.shape)
        place += blob.count
    return found


def stated(path: Path) -> dict[str, Any]:
    """Return what the .cfg beside a file of YOLO's weights states: classes, size of the input, and anchors of the maps.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.weights"
    >>> head = "[yolo]\\nclasses=3\\nmask=1\\nanchors=1,2, 3,4\\n"
    >>> _ = path.with_suffix(".cfg").write_text("[net]\\nwidth=64\\nheight=64\\n" + head)
    >>> path.touch()
    >>> stated(path)
    {'num_classes': 3, 'image_size': 64, 'anchors': (((3, 4),),)}

    Raises:
      BadInput: the .cfg is missing or damaged, or the input is no square.
    """
    cfg = cfg_beside(path)
    sections = read_cfg(cfg)
    heads = [section for section in sections if section.kind in HEADS]
    if not heads:
        return {}
    height, width = (sections[0].number(key) for key in ("height", "width"))
    if height != width:
        raise BadInput(f"{cfg}: the input is {height}x{width}; only square ones are supported")
    found: dict[str, Any] = {"num_classes": heads[-1].number("classes"), "image_size": height}
    levels = tuple(_anchors(section) for section in heads if section.kind == "yolo")
    return {**found, "anchors": OF_FILES.get(_digest(path), levels)} if levels else found


def correction(path: Path) -> str:
    """Return a line on anchors that :func:`stated` does not take from the .cfg beside the file; "" if it does.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.weights"
    >>> path.touch()
    >>> correction(path)
    ''

    Raises:
      BadInput: the .cfg is missing or damaged.
    """
    known = OF_FILES.get(_digest(path))
    cfg = cfg_beside(path) if known else path
    levels = tuple(_anchors(section) for section in read_cfg(cfg) if section.kind == "yolo") if known else None
    if known == levels:
        return ""
    was = "; ".join(spell(level) for level in levels or ())
    return (
        f"anchors: {'; '.join(spell(level) for level in known or ())}, with which this published file was trained, not "
        f"{was}, which {cfg.name} states; --set anchors=... decides"
    )


def spell(anchors: tuple[tuple[int, int], ...]) -> str:
    """Return anchors as a .cfg writes them.

    >>> spell(((10, 14), (23, 27)))
    '10,14 23,27'
    """
    return " ".join(f"{width},{height}" for width, height in anchors)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


def cfg_beside(path: Path) -> Path:
    """Return the .cfg that belongs to a .weights file: of the same name, or the only one in the folder.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "b.cfg").touch()
    >>> cfg_beside(folder / "a.weights").name
    'b.cfg'

    Raises:
      BadInput: there is none.
    """
    own = path.with_suffix(".cfg")
    others = [own] if own.is_file() else sorted(path.parent.glob("*.cfg"))
    if len(others) != 1:
        raise BadInput(f"the numbers of {path.name} have no names: put the network's {own.name} beside it")
    return others[0]


@dataclass(frozen=True)
class Section:
    """A section of a .cfg.

    >>> Section("convolutional", "a.cfg, line 3", {"size": "3"}).number("size")
    3
    """

    kind: str
    place: str
    options: dict[str, str] = field(default_factory=dict)

    def number(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """Return a whole number.

        Raises:
          BadInput: it is none, too small or too large, or missing without a default.
        """
        text = self.options.get(key)
        if text is None and default is not None:
            return default
        numbers = self.numbers(key)
        if len(numbers) != 1 or not least <= numbers[0] <= LARGEST:
            raise BadInput(f"{self.place}: {key}={(text or '')[:40]} of [{self.kind}] is no number from {least}")
        return numbers[0]

    def numbers(self, key: str) -> list[int]:
        """Return a list of whole numbers.

        Raises:
          BadInput: it is none.
        """
        text = self.options.get(key)
        try:
            return [int(float(part)) for part in (text or "").split(",") if part.strip() or text is None]
        except (ValueError, OverflowError) as error:
            given = "is missing" if text is None else f"is {text[:40]!r}, no whole number"
            raise BadInput(f"{self.place}: {key} of [{self.kind}] {given}") from error


def read_cfg(path: Path) -> list[Section]:
    """Return the sections of a .cfg, the network's first.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.cfg"
    >>> _ = path.write_text("[net]\\nwidth = 8  # pixels\\n[maxpool]\\n")
    >>> [(section.kind, section.options) for section in read_cfg(path)]
    [('net', {'width': '8'}), ('maxpool', {})]

    Raises:
      BadInput: it is no such file.
    """
    if path.stat().st_size > LARGEST:
        raise BadInput(f"{path.name} is no description of a network: it has more than {LARGEST:,} bytes")
    sections: list[Section] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        line = line.partition("#")[0].partition(";")[0].strip()
        key, equals, value = line.partition("=")
        if line.startswith("[") and line.endswith("]"):
            sections.append(Section(line[1:-1].strip().lower(), f"{path.name}, line {number}"))
        elif equals and sections:
            sections[-1].options[key.strip()] = value.strip()
        elif line:
            raise BadInput(f"{path.name}, line {number}: {line[:40]!r} is neither [section] nor key=value")
    if not sections or sections[0].kind not in ("net", "network"):
        raise BadInput(f"{path.name} is no description of a network: it does not begin with [net]")
    return sections


@dataclass(frozen=True)
class _Blob:
    name: str
    shape: tuple[int, ...]
    dense: bool = False

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def _blobs(sections: list[Section], cfg: Path) -> Iterator[_Blob]:
    """Yield the arrays in their order, following the shape of the map through the layers."""
    net = sections[0]
    shape: Shape = (net.number("channels", 3), net.number("height"), net.number("width"))
    shapes: list[Shape] = []
    count = 0
    for section in sections[1:]:
        if section.kind in ("convolutional", "connected"):
            dense = section.kind == "connected"
            yield from _connected(section, shape, count) if dense else _convolutional(section, shape, count)
            count += 1
        shape = _after(section, shape, shapes)
        shapes.append(shape)
    if not count:
        raise BadInput(f"{cfg.name} describes no layer with weights")


def _convolutional(section: Section, shape: Shape, n: int) -> Iterator[_Blob]:
    filters, side, groups = section.number("filters", 1), section.number("size", 1), section.number("groups", 1)
    if shape[0] % groups or filters % groups:
        raise BadInput(f"{section.place}: {shape[0]} channels and {filters} filters do not split into {groups} groups")
    normalised = section.number("batch_normalize", 0, least=0)
    yield _Blob(f"bn{n}.bias" if normalised else f"conv{n}.bias", (filters,))
    if normalised:
        yield from _statistics(n, filters)
    yield _Blob(f"conv{n}.weight", (filters, shape[0] // groups, side, side))


def _connected(section: Section, shape: Shape, n: int) -> Iterator[_Blob]:
    outputs = section.number("output", 1)
    normalised = section.number("batch_normalize", 0, least=0)
    yield _Blob(f"bn{n}.bias" if normalised else f"fc{n}.bias", (outputs,))
    yield _Blob(f"fc{n}.weight", (outputs, math.prod(shape)), dense=True)
    if normalised:
        yield from _statistics(n, outputs)


def _statistics(n: int, features: int) -> Iterator[_Blob]:
    return (_Blob(f"bn{n}.{name}", (features,)) for name in ("weight", "running_mean", "running_var"))


def _after(section: Section, shape: Shape, before: list[Shape]) -> Shape:
    """Return the shape of the map after a layer."""
    c, h, w = shape
    kind = section.kind
    if kind == "convolutional":
        side, stride = section.number("size", 1), section.number("stride", 1)
        pad = section.number("padding", 0, least=0)
        pad = side // 2 if section.number("pad", 0, least=0) else pad
        filters = section.number("filters", 1)
        return _checked(section, (filters, _steps(h, side, stride, 2 * pad), _steps(w, side, stride, 2 * pad)))
    if kind == "connected":
        return section.number("output", 1), 1, 1
    if kind == "maxpool":
        stride = section.number("stride", 1)
        side = section.number("size", stride)
        pad = section.number("padding", side - 1, least=0)
        return _checked(section, (c, _steps(h, side, stride, pad), _steps(w, side, stride, pad)))
    if kind == "route":
        return _route(section, before)
    if kind == "upsample":
        stride = section.number("stride", 2)
        return c, h * stride, w * stride
    if kind == "reorg":
        stride = section.number("stride", 1)
        return c * stride * stride, h // stride, w // stride
    if kind == "avgpool":
        return c, 1, 1
    if kind == "crop":
        return c, section.number("crop_height"), section.number("crop_width")
    if kind not in WITHOUT_WEIGHTS and kind not in HEADS:
        raise BadInput(f"{section.place}: layers of the kind [{kind[:40]}] are not read")
    return shape


def _route(section: Section, before: list[Shape]) -> Shape:
    found = []
    for number in section.numbers("layers"):
        place = number if number >= 0 else len(before) + number
        if not 0 <= place < len(before):
            raise BadInput(f"{section.place}: [route] leads to layer {number}, which is not there")
        found.append(before[place])
    if not found or len({shape[1:] for shape in found}) > 1:
        raise BadInput(f"{section.place}: [route] joins no maps of one size")
    channels = sum(shape[0] for shape in found) // section.number("groups", 1)
    return channels, *found[0][1:]


def _steps(length: int, side: int, stride: int, pad: int) -> int:
    return (length + pad - side) // stride + 1


def _checked(section: Section, shape: Shape) -> Shape:
    if min(shape) < 1:
        raise BadInput(f"{section.place}: nothing is left of the map after [{section.kind}]")
    return shape


def _anchors(section: Section) -> tuple[tuple[int, int], ...]:
    flat = section.numbers("anchors")
    pairs = list(zip(flat[::2], flat[1::2], strict=False))
    mask = section.numbers("mask") if "mask" in section.options else range(len(pairs))
    if len(flat) % 2 or not all(0 <= i < len(pairs) for i in mask) or not all(min(pair) > 0 for pair in pairs):
        raise BadInput(f"{section.place}: mask and anchors of [yolo] do not fit each other")
    return tuple(pairs[i] for i in mask)
