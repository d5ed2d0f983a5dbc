"""Facts about a data set that readers, recipes and the catalogue use without opening it: classes, palette, licence."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """Describe a data set.

    Attributes:
      name: the registry's name, also the file's and the folder's.
      summary: one line.
      classes: names of the classes of label maps, 0, 1, ...; void (255) is not among them. Empty without label maps.
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
      skeleton: pairs of joints, by name, between which a limb is drawn.
      things: names of the classes that objects have (``classes`` of a record), 0, 1, ...; void and stuff are not
        among them. A thing that is a class of label maps too bears the same name there.
      thing_palette: one RGB triple per thing.
      bands: names of the image's channels.
      tables: classes of the label maps of further tasks, by the task's name: ``{"parts": ("head", "tail")}`` for
        the key ``parts/label``.
      options: what its builder takes, with the defaults.
      class_ids: what the published files call the classes, where that is another number: COCO's category ids.
      thing_ids: likewise for the things; results are written with them.
      made_of: key -> the stored features that it is made of, where they have other names.

    >>> facts = Facts("cells", "cells or not", ("background", "cell"), ((0, 0, 0), (255, 0, 0)), {"train": 10})
    >>> facts.num_classes, facts.limits["c"]
    (2, 3)
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
    skeleton: tuple[tuple[str, str], ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    things: tuple[str, ...] = ()
    thing_palette: tuple[tuple[int, int, int], ...] = ()
    bands: tuple[str, ...] = ("red", "green", "blue")
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    class_ids: tuple[int, ...] = ()
    thing_ids: tuple[int, ...] = ()
    made_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Number of classes, void not counted."""
        return len(self.classes)

    @property
    def limits(self) -> dict[str, int]:
        """Lengths of the tables that a record's values index, for :func:`jaxseg.data.records.validate`."""
        found = {"classes": len(self.classes), "things": len(self.things), "c": len(self.bands)}
        return found | {f"{task}/classes": len(classes) for task, classes in self.tables.items()}

    @property
    def joint_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of joints that change places in a mirror image, for ``RandomFlip(swap=...)``.

        They are those whose names differ in "left" and "right" only.

        >>> Facts("people", "", (), (), {}, joints=("nose", "left_eye", "right_eye")).joint_pairs
        ((1, 2),)
        """
        other = {joint: joint.replace("left", "right") for joint in self.joints if "left" in joint}
        at = self.joints.index
        return tuple((at(left), at(right)) for left, right in other.items() if right in self.joints)
