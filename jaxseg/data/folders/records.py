"""Records of a folder, read from its files on access: nothing is kept in memory but their names."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data.folders.bands import as_file, read_bands, stored_size
from jaxseg.data.folders.item import Item
from jaxseg.data.folders.scan import scan
from jaxseg.data.objects import with_panoptic
from jaxseg.data.records import Record
from jaxseg.data.split_spec import chosen, names_in
from jaxseg.errors import BadInput
from jaxseg.types import VOID


def read_item(item: Item, channels: int, dtype: str, keys: Sequence[str] | None = None) -> Record:
    """Read an image of a folder with its labels and objects.

    Args:
      item: the image.
      channels: of the folder's images.
      dtype: of the folder's images.
      keys: what is wanted, so that the rest need not be read; None is everything.

    Raises:
      BadInput: a file cannot be read, or image and labels are of different sizes; the line names the files.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from jaxseg.data.records import encode_png
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.png"
    ...     _ = path.write_bytes(encode_png(np.zeros((2, 4, 3), np.uint8)))
    ...     record = read_item(Item("a", path, None), 3, "uint8")
    >>> record["image"].shape, int(record["label"].min())
    ((2, 4, 3), 255)
    """
    labelled = keys is None or bool({"label", "panoptic"} & set(keys))
    record: Record = {}
    if item.label is not None and labelled:
        record["label"] = item.label()
    if item.maps is not None and (keys is None or set(keys) - {"image", "label"}):
        record |= item.maps()
    if item.objects is not None and (keys is None or set(keys) - {"image", "label"}):
        record |= item.objects()
    shape = next((record[key].shape for key in ("label", "instance_ids", "depth") if key in record), None)
    size = None if shape is None else (shape[0], shape[1])
    with as_file(item.image, item.name) as path:
        try:
            record["image"] = read_bands(path, channels, dtype, size)
        except BadInput as error:
            of_size = size is not None and item.files and " but its label is " in str(error)
            masks = f" ({item.files[0]}); save both of one size" if of_size else ""
            raise BadInput(f"{error}{masks}") from error
    if item.label is None and item.maps is None and labelled:
        record["label"] = np.full(record["image"].shape[:2], VOID, np.uint8)
    return with_panoptic(record) if keys is None or "panoptic" in keys else record


def open_folder(
    path: str, options: Sequence[tuple[str, Any]], split: str, keys: Sequence[str] | None
) -> "FolderRecords":
    """Open a split of a folder: whole, a slice or a sum of several.

    Raises:
      BadInput: there is no such folder or split, or what is in it cannot be read.

    >>> open_folder("nowhere", (), "train", None)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: there is no folder ...nowhere
    """
    folder = scan(path, options)
    absent = [name for name in names_in(split) if name not in folder.splits]
    if absent:
        there = ", ".join(f"{name} {len(items)}" for name, items in folder.splits.items())
        raise BadInput(f"{folder.facts.name} has no split {absent[0]!r}; there are: {there}")
    parts = chosen(split, lambda name: len(folder.splits[name]))
    items = [folder.splits[name][place] for name, places in parts for place in places]
    return FolderRecords(folder.facts.name, items, folder.channels, folder.dtype, keys)


class FolderRecords(Sequence[Record]):
    """Records of a split of a folder.

    Args:
      name: of the data set, for messages.
      items: of the split.
      channels: of the images.
      dtype: of the images.
      keys: what is wanted of a record; None is everything.

    >>> records = FolderRecords("folder:cells", [Item("a", lambda: b"", None)], 3, "uint8")
    >>> len(records), records.column("id")
    (1, ['a'])
    """

    def __init__(
        self, name: str, items: Sequence[Item], channels: int, dtype: str, keys: Sequence[str] | None = None
    ) -> None:
        self._name, self._items, self._channels, self._dtype, self._keys = name, items, channels, dtype, keys

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return read_item(self._items[index], self._channels, self._dtype, self._keys)

    def sizes(self) -> np.ndarray:
        """Return i32[examples 2], height and width of every image, as it is read with its label; found once.

        >>> FolderRecords("folder:cells", [], 3, "uint8").sizes().shape
        (0, 2)
        """
        return self._sizes

    @functools.cached_property
    def _sizes(self) -> np.ndarray:
        return np.asarray([self._size(item) for item in self._items], np.int32).reshape(-1, 2)

    def _size(self, item: Item) -> tuple[int, int]:
        quick = stored_size(item.image) if isinstance(item.image, Path) else None
        if quick is not None:
            return quick
        height, width, _ = read_item(item, self._channels, self._dtype, ("image", "label"))["image"].shape
        return height, width

    def column(self, name: str) -> list[Any]:
        """Return what the folder knows of every image besides its record: ``id``, its name.

        Raises:
          BadInput: another column is asked for.

        >>> FolderRecords("folder:cells", [Item("a", lambda: b"", None)], 3, "uint8").column("id")
        ['a']
        """
        if name != "id":
            raise BadInput(f"{self._name} does not store {name!r}; it stores id")
        return [item.name for item in self._items]
