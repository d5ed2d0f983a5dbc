"""A folder prepared: its images in array_record files, which are read in its place while they are up to date."""

import dataclasses
import hashlib
import io
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data.builder import Examples, LocalBuilder, is_complete, source_of
from jaxseg.data.facts import Facts
from jaxseg.data.folders.bands import as_file
from jaxseg.data.folders.item import OPTIONS, Item
from jaxseg.data.folders.records import read_item
from jaxseg.data.folders.scan import PREFIX, Folder, scan
from jaxseg.data.label_files import encoded_image
from jaxseg.data.notes import note
from jaxseg.data.objects import with_panoptic
from jaxseg.data.origin import recall
from jaxseg.data.records import Record, decode_image, encode_png

GENERATED = False
ENCODED = ("image", "label", "instance_ids", "hidden_ids")

_OBJECTS = {
    "boxes": ((None, 4), np.float32),
    "classes": ((None,), np.int32),
    "area": ((None,), np.float32),
    "crowd": ((None,), np.bool_),
    "rle": ((None,), np.uint8),
}
_MAPS = {
    "depth": ((None, None), np.float32),
    "depth_valid": ((None, None), np.bool_),
    "normal": ((None, None, 3), np.float32),
    "normal_valid": ((None, None), np.bool_),
}


@dataclass(eq=False)
class FolderConfig(tfds.core.BuilderConfig):
    """Which folder, and how it is read.

    >>> FolderConfig(name="cells", path="cells").options
    ()
    """

    path: str = ""
    options: tuple[tuple[str, Any], ...] = ()


def config(path: str, options: Sequence[tuple[str, Any]]) -> FolderConfig:
    """Return the TFDS configuration of a folder: its name, and a digest of its whole path and the options.

    >>> config("/data/cells", ()).name.split("_")[0]
    'cells'
    """
    root = Path(path).expanduser().absolute()
    given = {name: value for name, value in dict(options).items() if name not in OPTIONS or value != OPTIONS[name]}
    text = json.dumps([os.fspath(root), sorted(given.items())], default=str)
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in root.name) or "root"
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return FolderConfig(name=f"{plain}_{digest}", path=os.fspath(root), options=tuple(options))


class Prepared(LocalBuilder):
    """Write the splits of a folder, each image and mask decoded once.

    >>> Prepared.name
    'folder'
    """

    name = "folder"
    FACTS = Facts(
        name="folder",
        summary="images of your own",
        classes=(),
        palette=(),
        splits={},
        source="the folder that the name says",
        options=OPTIONS,
    )
    builder_config: FolderConfig

    def features(self) -> dict[str, Any]:
        """Return image as published or its bands, label as PNG, the image's name, and objects where there are any."""
        facts, dtype = self._known()
        channels = len(facts.bands)
        seen = channels == 3 and dtype == "uint8"
        zlib = tfds.features.Encoding.ZLIB
        bands = tfds.features.Tensor(shape=(None, None, channels), dtype=np.dtype(dtype), encoding=zlib)
        found = {"image": tfds.features.Image(shape=(None, None, 3)) if seen else bands, "id": tfds.features.Text()}
        for key in facts.keys:
            if key == "label":
                found[key] = tfds.features.Image(shape=(None, None, 1))
            elif key in ("instance_ids", "hidden_ids"):
                found[key] = tfds.features.Image(shape=(None, None, 1), dtype=np.uint16)
            elif key in _OBJECTS:
                shape, kind = _OBJECTS[key]
                found[key] = tfds.features.Tensor(shape=shape, dtype=kind)
            elif key in _MAPS:
                shape, kind = _MAPS[key]
                found[key] = tfds.features.Tensor(shape=shape, dtype=kind, encoding=zlib)
        return found

    def facts(self) -> Facts:
        """Return what the folder holds; where it is gone, what was prepared of it.

        Raises:
          BadInput: there is no such folder, or it cannot be read.
        """
        return self._known()[0]

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return the splits of the folder.

        Raises:
          BadInput: the folder cannot be read.
        """
        folder = scan(self.builder_config.path, self.builder_config.options)
        for line in (*folder.found.notes,):
            note(line, folder.found.kind)
        assert self.info.metadata is not None
        self.info.metadata["facts"] = [dataclasses.asdict(folder.facts), folder.dtype]
        return {split: (len(items), _examples(folder, items)) for split, items in folder.splits.items()}

    def _known(self) -> tuple[Facts, str]:
        stored = _stored(Path(self.data_dir))
        path = self.builder_config.path
        if stored is not None and not Path(path).is_dir():
            return stored
        folder = scan(path, self.builder_config.options)
        return folder.facts, folder.dtype


Builder = Prepared


def builder_of(path: str, data_dir: str | os.PathLike[str], options: Sequence[tuple[str, Any]]) -> Prepared:
    """Return the TFDS builder of a folder's prepared copy.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     builder_of("nowhere", folder, ())
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: there is no folder ...nowhere
    """
    where = os.fspath(Path(data_dir).expanduser().absolute())
    return Prepared(data_dir=where, file_format="array_record", config=config(path, options))


def is_current(builder: Prepared) -> bool:
    """Return True if there is a whole copy of the folder as it is now; of an older one, say so.

    >>> import inspect
    >>> list(inspect.signature(is_current).parameters)
    ['builder']
    """
    if not is_complete(builder):
        return False
    path = Path(builder.builder_config.path)
    before = recall(Path(builder.data_dir))
    if before is None or not path.is_dir() or source_of(builder, path).digest == before.digest:
        return True
    warnings.warn(
        f"{path} has changed since it was prepared on {before.prepared}, so it is read itself; to prepare it anew: "
        f"jaxseg data prepare {PREFIX}{path} --again",
        stacklevel=2,
    )
    return False


def to_record(example: Mapping[str, Any]) -> Record:
    """Return the record of what was read: pictures decoded, numbers as they are.

    >>> to_record({"label": encode_png(np.zeros((2, 3), np.uint8))})["label"].shape
    (2, 3)
    """
    plain = {key for key, value in example.items() if key not in ENCODED or np.ndim(value) > 1}
    return with_panoptic({key: value if key in plain else decode_image(value) for key, value in example.items()})


def _examples(folder: Folder, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
    for item in items:
        record = read_item(item, folder.channels, folder.dtype)
        made: dict[str, Any] = {"id": item.name, "image": record["image"]}
        if folder.channels == 3 and folder.dtype == "uint8":
            with as_file(item.image, item.name) as path:
                made["image"] = io.BytesIO(encoded_image(path, record["image"].shape[:2])[0])
        for key in folder.facts.keys:
            if key in ENCODED and key != "image":
                blank = np.zeros(record["image"].shape[:2], np.uint16)
                made[key] = io.BytesIO(encode_png(record[key] if key == "label" else record.get(key, blank)))
            elif key in _OBJECTS or key in _MAPS:
                made[key] = record[key]
        yield made


def _stored(folder: Path) -> tuple[Facts, str] | None:
    """Return the facts that were kept beside prepared files."""
    try:
        found = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))["facts"]
    except (OSError, ValueError, KeyError):
        return None
    facts, dtype = found
    return Facts(**{key: _tuples(value) for key, value in facts.items()}), dtype


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
