"""Label maps and objects of the images and shapes that annotation tools export (:mod:`jaxseg.data.folders.shapes`)."""

import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxseg.data.folders.item import Colour, Found, Item, Options
from jaxseg.data.folders.outlines import rectangle
from jaxseg.data.folders.shapes import Annotated, Box, Shape, Table, make_table
from jaxseg.data.images import orientation_of, read_image
from jaxseg.data.masks import id_maps
from jaxseg.data.notes import note
from jaxseg.data.records import Record
from jaxseg.data.slots import text_of
from jaxseg.errors import BadInput
from jaxseg.ops import rle
from jaxseg.ops.rle import Rle
from jaxseg.types import VOID


def found(
    root: Path,
    images: Sequence[Annotated],
    names: Sequence[str],
    options: Options,
    *,
    kind: str,
    where: Path,
    ordered: bool,
    colours: Sequence[Colour] = (),
    notes: Sequence[str] = (),
    masks: bool | None = None,
) -> Found:
    """Return what a reader of an export found.

    Args:
      root: the folder.
      images: with their shapes.
      names: of the classes in their order, of the file's table or of the shapes.
      options: of the folder; with ``skip_missing``, images in which nothing was annotated are left out.
      kind: the format in a few words.
      where: the file or folder to name in an error.
      ordered: True if later shapes lie over earlier ones, False if the file means no order.
      colours: of ``names``, if the export has them.
      notes: on choices of the reader.
      masks: False if no shape has a mask; None to look at all of them.

    Raises:
      BadInput: there is no image, or a name that the option ``classes`` lacks.

    >>> cell = Shape("cell", "", functools.partial(rectangle, (0.0, 0.0), (1.0, 2.0)))
    >>> options = {"classes": (), "void": None, "skip_missing": False}
    >>> images = [Annotated("a", Path("a.png"), (2, 3), (cell,))]
    >>> made = found(Path("."), images, ["cell"], options, kind="labelme", where=Path("a.json"), ordered=True)
    >>> made.items[0].label().tolist()
    [[1, 0, 0], [1, 0, 0]]
    >>> made.items[0].objects()["boxes"].tolist()
    [[0.0, 0.0, 1.0, 2.0]]
    """
    if options["skip_missing"]:
        left = [each.name for each in images if each.bare]
        images = [each for each in images if not each.bare]
        if left:
            notes = [*notes, f"{len(left)} images without an annotation are left out: {', '.join(left[:3])}"]
    if not images:
        raise BadInput(f"{where} lists no image with annotations")
    table = make_table(names, options, where)
    if masks is None:
        drawn = [shape.draw is not None for each in images for shape in shapes_of(each)]
        masks = any(drawn) or not drawn
    items = []
    for each in images:
        items.append(
            Item(
                name=each.name,
                image=each.image,
                label=functools.partial(label_of, each, table, ordered) if masks else None,
                split=each.split,
                objects=functools.partial(objects_of, each, table, ordered),
                files=each.files,
            )
        )
    colour_of = dict(zip(names, colours, strict=True)) if colours else {}
    palette = tuple(colour_of.get(name, (0, 0, 0)) for name in table.classes) if colour_of else ()
    alone = [] if masks else ["it has boxes without masks: data for detectors, without label maps"]
    return Found(
        root, tuple(items), table.classes if masks else (), palette if masks else (), table.void, kind,
        (*notes, *alone), table.things,
    )  # fmt: skip


def shapes_of(image: Annotated) -> tuple[Shape, ...]:
    """Return the shapes of an image, read where that is still to be done.

    >>> shapes_of(Annotated("a", Path("a.png"), None, ()))
    ()
    """
    return image.shapes() if callable(image.shapes) else image.shapes


def label_of(image: Annotated, table: Table, ordered: bool) -> np.ndarray:
    """Return u8[h w], the classes of an image's pixels, 255 for void. Boxes without masks are void.

    >>> label_of(Annotated("a", Path("a.png"), (1, 2), ()), Table(("background", "cell"), (), 0), True).tolist()
    [[0, 0]]
    """
    drawn, ranks, height, width = _drawn(image, table, ordered)
    masks = []
    for each in drawn:
        if each.mask is None:
            note("boxes without masks, whose pixels are void", each.shape.where)
        masks.append(each.mask if each.mask is not None else _boxed(each.shape, height, width))
    behind = min(ranks, default=0.0) - len(ranks)
    ranks = [rank if each.mask is not None else rank + behind for rank, each in zip(ranks, drawn, strict=True)]
    front, _ = id_maps(masks, height, width, ranks=ranks)
    numbers = [VOID if each.mask is None else each.number for each in drawn]
    return np.asarray([table.fill, *numbers], np.uint8)[front]


def objects_of(image: Annotated, table: Table, ordered: bool) -> Record:
    """Return the objects of an image as keys of a record: boxes, classes, crowd, area, and masks if they have any.

    >>> cell = Shape("cell", "", functools.partial(rectangle, (0.0, 0.0), (1.0, 2.0)))
    >>> image = Annotated("a", Path("a.png"), (2, 3), (cell,))
    >>> objects_of(image, Table(("background", "cell"), (), 0), True)["instance_ids"].tolist()
    [[1, 0, 0], [1, 0, 0]]
    """
    drawn, ranks, height, width = _drawn(image, table, ordered)
    kept: list[tuple[_Drawn, float]] = []
    for each, rank in zip(drawn, ranks, strict=True):
        if each.thing < 0:
            continue
        cuts = [other.mask for other, its in zip(drawn, ranks, strict=True) if other.thing < 0 and its > rank]
        cut = each if each.mask is None else replace(each, mask=_without(each.mask, cuts))
        if cut.mask is not None and not rle.area(cut.mask):
            note("objects left out, wholly behind void or background", each.shape.where)
            continue
        kept.append((cut, rank))
    boxes = [_box(each, height, width) for each, _ in kept]
    masks = [each.mask for each, _ in kept]
    areas = [_area(each, box) for (each, _), box in zip(kept, boxes, strict=True)]
    record: Record = {
        "boxes": np.asarray(boxes, np.float32).reshape(-1, 4),
        "classes": np.asarray([each.thing for each, _ in kept], np.int32),
        "crowd": np.asarray([each.shape.crowd for each, _ in kept], bool),
        "area": np.asarray(areas, np.float32),
    }
    if not kept or any(mask is not None for mask in masks):
        front, behind = id_maps(masks, height, width, ranks=[rank for _, rank in kept])
        lines = ["" if mask is None else rle.to_string(mask) for mask in masks]
        record |= {"instance_ids": front, "hidden_ids": behind, "rle": text_of(lines)}
    return record


def upright_size(image: Path | bytes | Callable[[], bytes]) -> tuple[int, int]:
    """Return height and width of an image as it is seen, from its header.

    Raises:
      BadInput: it is no image that can be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (4, 2)).save(Path(folder) / "a.png")
    ...     upright_size(Path(folder) / "a.png")
    (2, 4)
    """
    if isinstance(image, Path):
        try:
            with Image.open(image) as header:
                width, height = header.size
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return read_image(image, channels=None).shape[:2]  # it may be an array, and says what is wrong
        return (width, height) if orientation_of(image) > 4 else (height, width)
    with Image.open(io.BytesIO(image if isinstance(image, bytes) else image())) as header:
        return header.height, header.width


@dataclass(frozen=True)
class _Drawn:
    """A shape with its mask and its number in label maps."""

    shape: Shape
    mask: Rle | None
    number: int
    thing: int


def _drawn(image: Annotated, table: Table, ordered: bool) -> tuple[list[_Drawn], list[float], int, int]:
    """Return what can be drawn of an image, the rank of each, and height and width."""
    height, width = image.size or upright_size(image.image)
    done: list[_Drawn] = []
    groups: dict[tuple[str, str], int] = {}
    for shape in shapes_of(image):
        try:
            mask = None if shape.draw is None else shape.draw(height, width)
        except BadInput as error:
            note("shapes left out, broken", f"{shape.where} ({error})")
            continue
        if mask is not None and not rle.area(mask):
            note("shapes left out, without a pixel inside the image", shape.where)
            continue
        number = table.number(shape.name)
        thing = -1 if number in (VOID, table.fill) else table.things.index(shape.name)
        key = (shape.group, shape.name)
        if shape.group and key in groups and mask is not None:
            at = groups[key]
            before = done[at].mask
            done[at] = replace(done[at], mask=mask if before is None else rle.merge([before, mask]))
            continue
        if shape.draw is None and _clipped(shape, height, width) is None:
            note("boxes left out, without a pixel inside the image", shape.where)
            continue
        groups[key] = len(done)
        done.append(_Drawn(shape, mask, number, thing))
    sizes = [-1 if each.mask is None else rle.area(each.mask) for each in done]
    within = range(len(done)) if ordered else [-size for size in sizes]
    order = sorted(range(len(done)), key=lambda i: (done[i].shape.layer, within[i], i))
    ranks = np.empty(len(done))
    ranks[order] = np.arange(len(done))
    return done, ranks.tolist(), height, width


def _without(mask: Rle, cuts: Sequence[Rle | None]) -> Rle:
    """Return the mask without what lies in front of it."""
    several = [cut for cut in cuts if cut is not None]
    return rle.encode(rle.decode(mask) & ~rle.decode(rle.merge(several))) if several else mask


def _box(each: _Drawn, height: int, width: int) -> Box:
    given = _clipped(each.shape, height, width) if each.shape.box is not None and not each.shape.group else None
    if given is not None:
        return given
    assert each.mask is not None
    x0, y0, columns, rows = rle.bounding_box(each.mask)
    return (float(x0), float(y0), float(x0 + columns), float(y0 + rows))


def _area(each: _Drawn, box: Box) -> float:
    if each.shape.area is not None and not each.shape.group:
        return each.shape.area
    return (box[2] - box[0]) * (box[3] - box[1]) if each.mask is None else float(rle.area(each.mask))


def _clipped(shape: Shape, height: int, width: int) -> Box | None:
    """Return the annotated box inside the image, None where nothing is left."""
    if shape.box is None:
        return None
    x0, y0, x1, y1 = shape.box
    box = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    return box if np.float32(box[2]) > np.float32(box[0]) and np.float32(box[3]) > np.float32(box[1]) else None


def _boxed(shape: Shape, height: int, width: int) -> Rle:
    assert shape.box is not None
    return rectangle(shape.box[:2], shape.box[2:], height, width)
