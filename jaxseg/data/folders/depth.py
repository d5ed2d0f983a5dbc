"""Images with depth, and normals where there are any: the reader of folders of such pairs.

``images/a.jpg`` with ``depth/a.png`` (and ``normals/a.npy``), with ``train/``, ``val/`` and ``test/`` above or below;
``a.color.jpg`` with ``a.depth.png``, as 7-Scenes has it; ``a.png`` with ``a_depth.npy``, ``a_depth_mask.npy`` and
``a_normal.npy``, as DIODE; and KITTI's depth (``proj_depth/groundtruth``) beside its raw drives.
"""

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data import problems
from jaxseg.data.depth_files import factor_of, read_depth, read_normal
from jaxseg.data.folders.item import Found, Item, Options, uniquely_named
from jaxseg.data.folders.layout import place_of
from jaxseg.data.listing import is_image, walk
from jaxseg.errors import BadInput

_FOLDERS = {
    **dict.fromkeys(("depth", "depths", "depth_map", "depth_maps", "depthmap", "depthmaps"), "depth"),
    **dict.fromkeys(("normal", "normals"), "normal"),
}
_SUFFIX = re.compile(r"[._\- ](depth_mask|depth|normals?|colou?r|rgb|image)$", re.IGNORECASE)
_KINDS = {"depth": "depth", "depth_mask": "mask", "normal": "normal", "normals": "normal"}
_DRIVE = r"(?P<drive>[^/]+_sync)"
_KITTI = (
    ("depth", re.compile(rf"(.*/)?{_DRIVE}/proj_depth/groundtruth/(?P<camera>image_0\d)/(?P<frame>\d+)\.png")),
    ("image", re.compile(rf"(.*/)?{_DRIVE}/(?P<camera>image_0\d)/data/(?P<frame>\d+)\.(png|jpe?g)")),
)
_SELECTION = re.compile(r"(?P<before>.+_)(?P<kind>image|groundtruth_depth)(?P<after>_\d+_image_0\d)$")

Parts = dict[str, str]
"""Files of an image by kind: image, depth, mask, normal."""


def recognises(root: Path) -> bool:
    """Return True if some files are depth, and no others masks of classes.

    >>> recognises(Path("nowhere"))
    False
    """
    if not root.is_dir():
        return False
    kinds = [(path, *_part_of(path)[:1]) for path in walk(root) if is_image(path)]
    labels = any(kind == "image" and place_of(path).role == "mask" for path, kind in kinds)
    return not labels and any(kind == "depth" for _, kind in kinds)


def read(root: Path, options: Options) -> Found:
    """Find the images of a folder with their depth.

    Args:
      root: the folder.
      options: :data:`jaxseg.data.folders.item.OPTIONS`; ``unit`` is that of the depth.

    Raises:
      BadInput: no image has depth, an image lacks it, or there is no such unit.

    >>> import tempfile
    >>> from jaxseg.data.folders.item import OPTIONS
    >>> from jaxseg.data.records import encode_png
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.color.png").write_bytes(encode_png(np.zeros((1, 2, 3), np.uint8)))
    ...     _ = (Path(folder) / "a.depth.png").write_bytes(encode_png(np.full((1, 2), 1500, np.uint16)))
    ...     found = read(Path(folder), OPTIONS)
    ...     found.maps, found.items[0].maps()["depth"].tolist()
    (('depth', 'depth_valid'), [[1.5, 1.5]])
    """
    factor_of(options["unit"], np.uint16)
    images: dict[tuple[str | None, str], tuple[Parts, str | None]] = {}
    kitti = False
    for path in walk(root):
        if is_image(path):
            kind, name, split, of_kitti = _part_of(path)
            kitti |= of_kitti and kind == "depth"
            key = (None if of_kitti else split, name)  # KITTI's images are in no split, their depth is
            parts, known = images.get(key, ({}, None))
            if kind in parts:
                problems.report(f"{root / path} and {parts[kind]} are both the {kind} of {name!r}; keep one of them")
                continue
            images[key] = ({**parts, kind: path}, split if kind == "depth" or known is None else known)
    with_normals = all("normal" in parts for parts, _ in images.values() if "depth" in parts and "image" in parts)
    unit = "kitti" if kitti and options["unit"] is None else options["unit"]
    items, left = [], []
    for (_, name), (parts, split) in images.items():
        if "image" in parts and "depth" in parts:
            items.append(_item(root, name, parts, split, unit, with_normals))
        elif "image" not in parts:
            problems.report(f"{root / next(iter(parts.values()))} is depth of no image; there is no image {name!r}")
        elif options["skip_missing"] or kitti:
            left.append(name)
        else:
            problems.report(
                f"{root / parts['image']} has no depth; add it, or leave such images out: --option skip_missing=True"
            )
    if not items:
        raise BadInput(f"{root} holds no image with depth")
    notes = (f"{len(left)} images without depth are left out: {', '.join(left[:3])}",) if left else ()
    maps = ("depth", "depth_valid", *(("normal", "normal_valid") if with_normals else ()))
    kind = "images with depth and normals" if with_normals else "images with depth"
    return Found(root, uniquely_named(items), (), (), (), kind, notes, maps=maps)


def read_maps(depth: Path, mask: Path | None, normal: Path | None, unit: Any) -> dict[str, np.ndarray]:
    """Read the maps of an image as keys of a record.

    Raises:
      BadInput: a file cannot be read or is not what it should be.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "a.npy", np.ones((1, 2), np.float32))
    ...     sorted(read_maps(Path(folder) / "a.npy", None, None, "m"))
    ['depth', 'depth_valid']
    """
    metres, known = read_depth(depth, unit, mask)
    found = {"depth": metres, "depth_valid": known}
    if normal is not None:
        found["normal"], found["normal_valid"] = read_normal(normal)
        if found["normal_valid"].shape != known.shape:
            size = "x".join(map(str, found["normal_valid"].shape[::-1]))
            raise BadInput(f"{normal} is {size} but {depth} is {known.shape[1]}x{known.shape[0]}")
    return found


def _item(root: Path, name: str, parts: Parts, split: str | None, unit: Any, with_normals: bool) -> Item:
    paths = {kind: root / path for kind, path in parts.items()}
    normal = paths.get("normal") if with_normals else None
    return Item(
        name=name,
        image=paths["image"],
        label=None,
        split=split,
        files=tuple(paths[kind] for kind in ("depth", "mask", "normal") if kind in paths),
        maps=functools.partial(read_maps, paths["depth"], paths.get("mask"), normal, unit),
    )


def _part_of(path: str) -> tuple[str, str, str | None, bool]:
    """Return a file's kind, the name that it shares with its image, its split, and whether it is KITTI's."""
    for kind, pattern in _KITTI:
        found = pattern.fullmatch(path)
        if found is not None:
            name = "/".join(found[part] for part in ("drive", "camera", "frame"))
            return kind, name, place_of(path).split, True
    *folders, file = path.split("/")
    of_folder = [_FOLDERS[word] for folder in folders if (word := _plain(folder)) in _FOLDERS]
    place = place_of("/".join([*(folder for folder in folders if _plain(folder) not in _FOLDERS), file]))
    name, kind = place.name, of_folder[-1] if of_folder else "image"
    chosen = _SELECTION.fullmatch(name)
    if chosen is not None:
        name = f"{chosen['before']}image{chosen['after']}"
        return "depth" if chosen["kind"] == "groundtruth_depth" else "image", name, place.split, True
    found = _SUFFIX.search(name)
    if found is not None:
        name, kind = name[: found.start()], _KINDS.get(found[1].lower(), kind)
    return kind, name, place.split, False


def _plain(folder: str) -> str:
    return re.sub(r"[_\-. ]+", "_", folder.lower()).removeprefix("groundtruth_").removesuffix("_png")
