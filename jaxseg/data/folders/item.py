"""What the readers of folders yield: items (an image and how to get its labels) and what was found in a folder."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

Colour = tuple[int, int, int]

Options = dict[str, Any]
"""Options of a folder by name, all of them given: see ``OPTIONS``."""

OPTIONS: Options = {
    "void": None,
    "classes": (),
    "group": None,
    "split": 0.2,
    "masks": None,
    "objects": None,
    "channels": None,
    "skip_missing": False,
    "unit": None,
}
"""What a folder takes, with the defaults.

* ``void``: numbers, colours (``"#ff00ff"``) or names of classes in the masks that are no class; None leaves it to the
  reader (255 where it is no class, and classes called void or ignore).
* ``classes``: names of the classes, in order; without them a table in the folder, or numbers.
* ``group``: a regular expression; images whose names match it alike (its first group, or the whole match) are of one
  film or scene and stay in one split.
* ``split``: the share of images set apart as ``val`` where the folder has no splits, or the shares of ``val`` and
  ``test``: ``(0.2, 0.1)``; 0 for none.
* ``masks``: the folder of the masks, or the file of the annotations, where it is not found by name; ``"none"`` takes
  images alone.
* ``objects``: whether several masks of an image are one object each (True) or one class each (False); None tells by
  their names (:mod:`jaxseg.data.folders.instances`).
* ``channels``: of the images; None is what they have. 3 is RGB, of grey images too.
* ``skip_missing``: whether images without a mask, or without depth, are left out instead of refused. Of what annotation
  tools export: annotations whose image is not there, and images that nothing was annotated in, which are background
  otherwise.
* ``unit``: of depth, one of :data:`jaxseg.data.depth_files.UNITS`, or metres for each stored number; None is
  millimetres of integers, metres of floats, and KITTI's own in its layout.
"""


@dataclass(frozen=True, eq=False)
class Item:
    """An image of a folder, and how to get its labels. It can be pickled: workers read it.

    Attributes:
      name: of the image, unique in the folder: its path without suffix and without the words of the layout.
      image: the file; or, for images inside of other files, their encoded bytes or what reads these.
      label: returns u8[h w], classes 0, 1, ... and 255 for void, at the size that the file stores; None for an image
        without labels. A ``functools.partial`` of a module's function can be pickled, a lambda cannot.
      split: the one in which the folder has it, None where it has none.
      group: images of one group stay in one split; None for a group of its own.
      objects: returns the objects as keys of a record, at the same size: ``boxes`` f32[n 4], ``classes`` i32[n] that
        index :attr:`Found.things`, and what is known of ``area``, ``crowd``, ``instance_ids``, ``hidden_ids``, ``rle``.
      files: the files that the labels come from, for messages.
      maps: returns further maps as keys of a record: ``depth``, ``depth_valid``, ``normal``, ``normal_valid``.

    >>> Item("a", Path("images/a.png"), None).split is None
    True
    """

    name: str
    image: Path | bytes | Callable[[], bytes]
    label: Callable[[], np.ndarray] | None
    split: str | None = None
    group: str | None = None
    objects: Callable[[], dict[str, np.ndarray]] | None = None
    files: tuple[Path, ...] = ()
    maps: Callable[[], dict[str, np.ndarray]] | None = None


def uniquely_named(items: Iterable[Item]) -> tuple[Item, ...]:
    """Return the items under unique names: that of the split stands before what several splits have.

    >>> items = [Item("a", Path("train/a.png"), None, "train"), Item("a", Path("val/a.png"), None, "val")]
    >>> [item.name for item in uniquely_named(items)]
    ['train/a', 'val/a']
    """
    items = list(items)
    seen: set[str] = set()
    twice = {item.name for item in items if item.name in seen or seen.add(item.name)}
    return tuple(replace(item, name=f"{item.split}/{item.name}") if item.name in twice else item for item in items)


@dataclass(frozen=True, eq=False)
class Found:
    """What a reader found in a folder.

    Attributes:
      root: the folder.
      items: in the order of the folder's lists, or of their names.
      classes: names of the classes of the label maps; void is not among them.
      palette: a colour for each class; empty leaves the choice to others.
      void: what the masks write for void: numbers, colours as ``"#rrggbb"``, or names.
      kind: the layout and the kind of the masks in a few words: "pairs, RGB colours".
      notes: choices that the reader made, a line each.
      things: names of the classes of objects, where the items have objects.
      maps: keys of the items' further maps.

    >>> Found(Path("cells"), (), ("background", "cell"), (), (), "pairs, 0 and 255", ()).things
    ()
    """

    root: Path
    items: tuple[Item, ...]
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    void: tuple[int | str, ...]
    kind: str
    notes: tuple[str, ...] = ()
    things: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()
