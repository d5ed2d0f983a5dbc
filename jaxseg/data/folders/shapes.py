"""What annotation tools export: images with named shapes, which lie over one another.

The readers of exports make these; :mod:`jaxseg.data.folders.exports` draws label maps and objects of them.

* Pixels of no shape are ``background``, the first class. With the option ``void="background"`` they are void instead,
  for scenes of which only parts are annotated.
* A shape called as one of the names of void is void; one called background is a hole: both cut what lies behind them.
* Shapes that share a group and a name are one object.
* What lies in front follows from the file where it has an order, else the smaller is in front.

A shape that cannot be used (less than three points, no pixel inside the image, broken run lengths) is left out and
noted (:mod:`jaxseg.data.notes`), so that a slip of the mouse does not stop a training; ``jaxseg data check`` lists
them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxseg.data.folders.item import Options
from jaxseg.errors import BadInput, suggest
from jaxseg.ops.rle import Rle
from jaxseg.types import VOID

Draw = Callable[[int, int], Rle]
"""Returns the mask of a shape for an image of a height and a width; a ``functools.partial``, so that it pickles."""

Box = tuple[float, float, float, float]

BACKGROUNDS = ("background", "_background_", "__background__")
"""Names of what is no object; the first is used where a file has none of them."""

VOIDS = ("void", "ignore", "__ignore__", "__void__")
"""Names of shapes whose pixels are void unless the option ``void`` says otherwise."""


@dataclass(frozen=True)
class Shape:
    """An annotated shape.

    Attributes:
      name: of its class.
      where: what to call it: "a.json shape 3".
      draw: makes its mask; None for a box alone.
      box: x0 y0 x1 y1 as annotated, pixels; None for that of the mask.
      crowd: True if it stands for several objects.
      area: as annotated, pixels; None for that of the mask.
      group: shapes of one group and one name are one object; "" for an object of its own.
      layer: the higher is in front; within one, the later of an ordered file, else the smaller.

    >>> Shape("cell", "a.json shape 1", None, (0.0, 0.0, 2.0, 2.0)).crowd
    False
    """

    name: str
    where: str
    draw: Draw | None
    box: Box | None = None
    crowd: bool = False
    area: float | None = None
    group: str = ""
    layer: int = 0


@dataclass(frozen=True)
class Annotated:
    """An image of an export and its shapes.

    Attributes:
      name: of the image, unique in the export.
      image: as in :class:`~jaxseg.data.folders.item.Item`.
      size: height and width as the file states them; None where it does not.
      shapes: in the file's order; or what returns them.
      files: that the shapes come from.
      split: the one that the export names.
      bare: True if nothing was annotated in it, and nothing says that this is so on purpose.

    >>> Annotated("a", Path("a.png"), (4, 6), ()).split is None
    True
    """

    name: str
    image: Path | Callable[[], bytes]
    size: tuple[int, int] | None
    shapes: tuple[Shape, ...] | Callable[[], tuple[Shape, ...]]
    files: tuple[Path, ...] = ()
    split: str | None = None
    bare: bool = False


@dataclass(frozen=True)
class Table:
    """The classes of an export.

    Attributes:
      classes: of label maps.
      void: names of void.
      fill: the number of pixels of no shape.

    >>> Table(("background", "cell"), ("void",), 0).things
    ('cell',)
    """

    classes: tuple[str, ...]
    void: tuple[str, ...]
    fill: int

    @property
    def things(self) -> tuple[str, ...]:
        """Classes of objects, all but the background."""
        return tuple(name for number, name in enumerate(self.classes) if number != self.fill)

    def number(self, name: str) -> int:
        """Return the number of a class in label maps, ``VOID`` for names of void."""
        return VOID if _is_void(name, self.void) else self.fill if _is_background(name) else self.classes.index(name)


def make_table(names: Sequence[str], options: Options, where: Path) -> Table:
    """Return the classes of an export: those of the option ``classes``, or else the names in their order.

    Args:
      names: of the shapes, or of the file's own table.
      options: of the folder.
      where: what to name in an error.

    Raises:
      BadInput: ``classes`` lacks one of the names, or there are too many.

    >>> make_table(("dog", "ignore", "cat"), {"classes": (), "void": None}, Path("a.json")).classes
    ('background', 'dog', 'cat')
    """
    given = options["void"]
    given = given.split(",") if isinstance(given, str) else [given] if isinstance(given, int) else given
    void = VOIDS if given is None else tuple(str(each).strip() for each in given)
    chosen = options["classes"]
    chosen = [word.strip() for word in chosen.split(",")] if isinstance(chosen, str) else list(chosen)
    classes = tuple(dict.fromkeys(chosen or names))
    classes = tuple(name for name in classes if not _is_void(name, void))
    for name in names:
        if not (name in classes or _is_void(name, void) or _is_background(name)):
            raise BadInput(
                f"{where} has shapes called {name!r}, which is none of the classes {', '.join(classes)}"
                f"{suggest(name, classes)}; add it to the option classes, or to void to leave its pixels out"
            )
    own = [number for number, name in enumerate(classes) if _is_background(name)]
    if not own and not any(_is_background(name) for name in void):
        classes, own = (BACKGROUNDS[0], *classes), [0]
    if len(classes) > VOID:
        raise BadInput(f"{where} has {len(classes)} classes; label maps hold {VOID} at most")
    return Table(classes, void, own[0] if own else VOID)


def _is_background(name: str) -> bool:
    return name.lower() in BACKGROUNDS


def _is_void(name: str, void: Sequence[str]) -> bool:
    return name.lower() in {each.lower() for each in void}
