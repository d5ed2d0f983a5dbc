"""Oxford-IIIT Pet: cats and dogs of 37 breeds, the animal against the rest (Parkhi et al. 2012).

Source folder: ``images/NAME.jpg``, ``annotations/trimaps/NAME.png`` and the lists ``annotations/trainval.txt`` and
``annotations/test.txt``, whose lines begin with a name, as the two archives unpack. Trimaps hold 1 for the animal, 2
for the rest and 3 for a rim that belongs to neither, which becomes void. Some images are not RGB JPEGs; those are
stored as PNG.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data import label_files
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.listing import find_image
from jaxseg.errors import BadInput
from jaxseg.types import VOID

GENERATED = False
ENCODED = ("image", "label")

FACTS = Facts(
    name="oxford_pets",
    summary="cats and dogs, the animal against the rest; a rim around it is void",
    classes=("background", "pet"),
    palette=((0, 0, 0), (255, 128, 0)),
    splits={"trainval": 3680, "test": 3669},
    licence="CC BY-SA 4.0",
    url="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    source="images.tar.gz and annotations.tar.gz of https://www.robots.ox.ac.uk/~vgg/data/pets/, unpacked side by side",
    citation="Parkhi, Vedaldi, Zisserman, Jawahar, CVPR 2012",
)

_CLASSES = np.array([255, 1, 0, VOID], np.uint8)


class OxfordPets(LocalBuilder):
    """Write trainval and test in the order of their lists.

    >>> OxfordPets.FACTS.classes
    ('background', 'pet')
    """

    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Return image, label as PNG, and the image's name."""
        return label_files.features()

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return both splits.

        Raises:
          BadInput: a list or a file that it names is not there, or a trimap holds another number.
        """
        assert source is not None
        splits = {}
        for split in self.FACTS.splits:
            names = [
                line.split()[0]
                for line in label_files.lines_of(source / "annotations" / f"{split}.txt")
                if line[0] != "#"
            ]
            splits[split] = (len(names), (_example(source, name) for name in names))
        return splits


Builder = OxfordPets
to_record = label_files.to_record


def _example(source: Path, name: str) -> dict[str, Any]:
    path = source / "annotations" / "trimaps" / f"{name}.png"
    trimap = label_files.label_map(path)
    if not 1 <= trimap.min() <= trimap.max() <= 3:
        raise BadInput(f"{path}: values {trimap.min()}..{trimap.max()}; a trimap holds 1, 2 and 3")
    image = find_image(source / "images", name, (".jpg", ".jpeg"))
    return label_files.example(image, _CLASSES[trimap], name)
