"""The facts table of a data set: what a reader, a recipe and the catalogue need to know of it without opening it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """What is known of a data set.

    Attributes:
      name: the registry's name, also the file's and the folder's.
      summary: one line.
      classes: names of the classes 0, 1, ...; void (255) is not among them.
      palette: one RGB triple per class.
      splits: split name -> number of examples, None where it is not known beforehand.
      keys: the batch keys that its records can fill.
      licence: terms of use, in the source's own terms.
      url: where it is described.
      source: where the files are to be had, and in which layout.
      citation: what to cite.
      weights: named lists of class weights (name -> one weight per class), each with its definition in the file.
      fractions: share of each class among all pixels of the training split, void counted in the total.
      joints: names of the keypoints of an object.
      options: what its builder takes, with the defaults.
    """

    name: str
    summary: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    splits: Mapping[str, int | None]
    keys: tuple[str, ...] = ("image", "label")
    licence: str = ""
    url: str = ""
    source: str = ""
    citation: str = ""
    weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    fractions: tuple[float, ...] | None = None
    joints: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Number of classes, void not counted."""
        return len(self.classes)
