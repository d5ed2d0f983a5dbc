"""A data set class of the user's own: ``Source("my_module:Cells", "train")``.

The class has four things::

    class Cells:
        classes = ("background", "cell")             # of the label maps

        def __init__(self, split):                   # "train", "val", ...; options of the source are further arguments
            self.files = sorted(Path(split).glob("*.tif"))

        def __len__(self):
            return len(self.files)

        def __getitem__(self, index):                # keys as in jaxseg.types.BATCH, without the axis b
            return {"image": read(self.files[index]), "label": ...}   # u8[h w 3], u8[h w] with 255 for void

It may say more: ``keys`` (what its records hold, unless that is an image and a label), ``splits`` (their names),
``palette``, ``things`` and ``thing_palette`` (classes of objects), ``bands``
(names of the image's channels, three of them unless it says otherwise), ``joints``. The module is found beside the
recipe's file, in the current directory, or among what is installed; workers import it too.
"""

import functools
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxseg.data.facts import Facts
from jaxseg.data.records import Record
from jaxseg.data.split_spec import chosen
from jaxseg.errors import BadInput, suggest
from jaxseg.types import BATCH

Options = tuple[tuple[str, Any], ...]

_FACTS = ("palette", "things", "thing_palette", "bands", "joints", "skeleton", "licence", "url", "citation", "weights")
"""What the class may say of itself, named as in :class:`~jaxseg.data.facts.Facts`."""


def is_own(name: str) -> bool:
    """Return True if a data set's name is spelled ``module:Class``.

    >>> is_own("my_module:Cells"), is_own("camvid"), is_own("folder:cells")
    (True, False, False)
    """
    module, colon, kind = name.partition(":")
    return (
        bool(colon)
        and module != "folder"
        and all(part.isidentifier() for part in (*module.split("."), *kind.split(".")))
    )


def find_class(name: str) -> type:
    """Import the class of a name.

    Raises:
      BadInput: there is no such module or class, importing it fails, or it lacks what a data set needs.

    >>> find_class("no_such_module:Cells")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: data set 'no_such_module:Cells': there is no module no_such_module ...
    """
    address, _, qualname = name.partition(":")
    top = address.split(".")[0]
    if top in sys.stdlib_module_names or top == "jaxseg":
        raise BadInput(f"data set {name!r}: {top} is no module of yours")
    if os.getcwd() not in sys.path:  # an installed command does not look there
        sys.path.append(os.getcwd())
    try:
        found: Any = importlib.import_module(address)
    except ModuleNotFoundError as error:
        if error.name is None or not (address == error.name or address.startswith(error.name + ".")):
            raise BadInput(f"data set {name!r}: {address} cannot be imported: {error}") from error
        raise BadInput(
            f"data set {name!r}: there is no module {address} beside the recipe, in {os.getcwd()} or installed; name "
            f"the recipe that {top}.py lies beside, --recipe FILE.py, or put its folder into PYTHONPATH"
        ) from None
    except Exception as error:
        raise BadInput(f"data set {name!r}: {address} cannot be imported: {type(error).__name__}: {error}") from error
    for part in qualname.split("."):
        if part not in vars(found):
            raise BadInput(f"data set {name!r}: there is no {part} in {address}{suggest(part, _classes_in(found))}")
        found = vars(found)[part]
    lacking = [need for need in ("__len__", "__getitem__", "classes") if not hasattr(found, need)]
    if not isinstance(found, type) or lacking:
        raise BadInput(
            f"data set {name!r} is no class with classes, __init__(split), __len__ and __getitem__"
            + (f": it has no {lacking[0]}" if isinstance(found, type) else "")
        )
    return found


def facts_of(name: str) -> Facts:
    """Return what the class says of itself.

    Raises:
      BadInput: as of :func:`find_class`; or ``classes`` are no names.

    >>> import types
    >>> class Cells(list):
    ...     classes = ("background", "cell")
    ...     def __init__(self, split):
    ...         super().__init__([{"image": np.zeros((2, 4, 3)), "label": np.zeros((2, 4))}])
    >>> sys.modules["my_cells"] = types.SimpleNamespace(Cells=Cells)
    >>> facts_of("my_cells:Cells").num_classes
    2
    """
    kind = find_class(name)
    said = {key: value for part in reversed(kind.__mro__) for key, value in vars(part).items()}
    classes = said["classes"]
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not all(isinstance(c, str) for c in classes):
        raise BadInput(f"data set {name!r}: classes is {classes!r}; it is a tuple of names")
    splits = said.get("splits", ())
    more: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in said.items() if key in _FACTS
    }
    doc = (kind.__doc__ or "").strip().split("\n")[0]
    return Facts(
        name=name,
        summary=doc or f"the class {name}",
        classes=tuple(classes),
        palette=tuple(more.pop("palette", ())),
        splits=dict(splits) if isinstance(splits, Mapping) else dict.fromkeys(splits),
        keys=tuple(said.get("keys", ("image", "label"))),
        **more,
    )


def open_own(name: str, split: str, keys: tuple[str, ...] | None, options: Options) -> "OwnRecords":
    """Open a split of the class: whole, a slice or a sum of several.

    Raises:
      BadInput: the class cannot be imported, refuses the split or the options, or has no example.

    >>> import types
    >>> class Cells(list):
    ...     classes = ("background", "cell")
    ...     def __init__(self, split):
    ...         super().__init__([{"image": np.zeros((2, 4, 3)), "label": np.zeros((2, 4))}])
    >>> sys.modules["my_cells"] = types.SimpleNamespace(Cells=Cells)
    >>> len(open_own("my_cells:Cells", "val", None, ()))
    1
    """
    kind = find_class(name)
    splits = facts_of(name).splits
    made: dict[str, Any] = {}

    def length(part: str) -> int:
        if splits and part not in splits:
            raise BadInput(f"data set {name!r} has no split {part!r}; there are: {', '.join(splits)}")
        try:
            made[part] = kind(part, **dict(options))
            return len(made[part])
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(f"data set {name!r}: {kind.__name__}({part!r}) failed: {_words(error)}") from error

    parts = chosen(split, length)
    return OwnRecords(name, [(part, made[part], places) for part, places in parts], keys)


class OwnRecords(Sequence[Record]):
    """Records of one split of a user's class.

    Args:
      name: of the data set.
      parts: of the split: the name, the examples, and which of them.
      keys: what is wanted of a record; None is everything.

    >>> records = OwnRecords("m:C", [("val", [{"image": np.zeros((2, 4, 3), np.uint8)}], range(1))], None)
    >>> records[0]["image"].shape, records.sizes().tolist()
    ((2, 4, 3), [[2, 4]])
    """

    def __init__(self, name: str, parts: Sequence[tuple[str, Any, range]], keys: tuple[str, ...] | None) -> None:
        self._name, self._keys = name, keys
        self._places = [(split, examples, place) for split, examples, places in parts for place in places]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        split, examples, place = self._places[index]
        where = f"{self._name}/{split}[{place}]"
        try:
            found = examples[place]
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(f"{where}: {_words(error)}") from error
        if not isinstance(found, Mapping) or "image" not in found:
            what = (
                f"a dict of {', '.join(map(str, found))}" if isinstance(found, Mapping) else f"a {type(found).__name__}"
            )
            raise BadInput(f"{where} is {what}, not a dict with image and label")
        wanted = found if self._keys is None else [key for key in found if key in self._keys or key not in BATCH]
        record = {key: np.asarray(found[key]) for key in wanted}
        if record["image"].ndim == 2:
            record["image"] = record["image"][..., None]
        for key in ("label", "instance_ids"):
            if key in record and record[key].shape != record["image"].shape[:2]:
                shapes = f"{list(record['image'].shape)} and {key} {list(record[key].shape)}"
                raise BadInput(f"{where}: image is {shapes}, not of one height and width")
        return record

    def sizes(self) -> np.ndarray:
        """Return i32[examples 2], height and width of every image; found once, by reading all of them.

        >>> OwnRecords("m:C", [], None).sizes().shape
        (0, 2)
        """
        return self._sizes

    @functools.cached_property
    def _sizes(self) -> np.ndarray:
        return np.asarray([self[i]["image"].shape[:2] for i in range(len(self))], np.int32).reshape(-1, 2)

    def column(self, name: str) -> list[Any]:
        """Return a key of every example that is no array of the image's: ``image_id``.

        Raises:
          BadInput: the examples have no such key.

        >>> examples = [{"image": np.zeros((2, 4, 3), np.uint8), "image_id": 7}]
        >>> OwnRecords("m:C", [("val", examples, range(1))], None).column("image_id")
        [7]
        """
        found = [examples[place] for _, examples, place in self._places]
        if not all(name in example for example in found):
            raise BadInput(f"data set {self._name!r} does not store {name!r}")
        return [example[name] for example in found]


def _classes_in(found: Any) -> list[str]:
    return [name for name, value in vars(found).items() if isinstance(value, type)]


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
