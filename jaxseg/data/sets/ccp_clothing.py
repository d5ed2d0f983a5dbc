"""Clothing Co-Parsing: street photographs of one person each, 59 garments and body parts in ten classes (Yang et al.
2014).

Source folder: ``photos/ID.jpg``, ``labels/ID.png`` with the numbers of ``classes.json``, the list of the 59 names (0 is
"null"). Ten classes gather them, see :data:`GATHERED`. The remainder of an ID by 5 says its split, ``test`` for 0 and
``val`` for 1; hence a photograph is on the same side however many there are. Splits without photographs are not there.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data import label_files
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.listing import images_in
from jaxseg.errors import BadInput

GENERATED = False
ENCODED = ("image", "label")

GATHERED: dict[str, tuple[str, ...]] = {
    "background": ("null",),
    "skin": ("skin",),
    "hair": ("hair",),
    "hat": ("hat",),
    "upper": (
        *("blazer", "blouse", "bodysuit", "bra", "cape", "cardigan", "coat", "hoodie", "intimate", "jacket", "jumper"),
        *("shirt", "suit", "sweater", "sweatshirt", "swimwear", "t-shirt", "top", "vest"),
    ),
    "dress": ("dress", "romper"),
    "lower": ("jeans", "panties", "pants", "shorts", "skirt"),
    "legwear": ("leggings", "socks", "stockings", "tights"),
    "shoes": (*("boots", "clogs", "flats", "heels", "loafers", "pumps", "sandals", "shoes", "sneakers", "wedges"),),
    "bag": ("bag", "purse"),
    "accessories": (
        *("accessories", "belt", "bracelet", "earrings", "glasses", "gloves", "necklace", "ring", "scarf"),
        *("sunglasses", "tie", "wallet", "watch"),
    ),
}
"""The published names that each class gathers."""

_FOLDS = 5

FACTS = Facts(
    name="ccp_clothing",
    summary="street photographs of one person: ten classes of garments and body parts, and background",
    classes=tuple(GATHERED),
    palette=(
        *((0, 0, 0), (250, 190, 150), (120, 70, 20), (240, 220, 60), (60, 110, 220), (220, 60, 140)),
        *((40, 170, 120), (150, 90, 200), (230, 80, 40), (130, 200, 230), (170, 170, 60)),
    ),
    splits={"train": None, "val": None, "test": None},
    licence="Apache-2.0; the photographs come from a fashion site",
    url="https://github.com/bearpaw/clothing-co-parsing",
    source="photos/ of https://github.com/bearpaw/clothing-co-parsing, its annotations as labels/ID.png, and the list "
    "of their names as classes.json",
    citation="Yang, Luo, Lin, Clothing Co-Parsing by Joint Image Segmentation and Labeling, CVPR 2014",
)


class CcpClothing(LocalBuilder):
    """Write train, val and test, split by the IDs, in their order.

    >>> CcpClothing.FACTS.num_classes
    11
    """

    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Return image as published, label as PNG, and the ID."""
        return label_files.features()

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return train, val and test, those that are there.

        Raises:
          BadInput: the list of names is absent or has others, there is no photograph, or one has no number for a name.
        """
        assert source is not None
        table = table_of(source / "classes.json")
        if not (source / "photos").is_dir():
            raise BadInput(f"there is no folder {source / 'photos'}; {FACTS.source}")
        paths = images_in(source / "photos", (".jpg",))
        strange = [path.name for path in paths if not path.stem.isdecimal()]
        if not paths or strange:
            told = f"{strange[0]!r} is not called by a number" if strange else "there is no .jpg"
            raise BadInput(f"{source / 'photos'}: {told}; {FACTS.source}")
        chosen = {split: [path for path in paths if split_of(path.stem) == split] for split in FACTS.splits}
        return {split: (len(of), _examples(source, of, table)) for split, of in chosen.items() if of}


Builder = CcpClothing
to_record = label_files.to_record


def split_of(name: str) -> str:
    """Return "train", "val" or "test", which follows from a photograph's number.

    >>> split_of("0004"), split_of("0005"), split_of("0006")
    ('train', 'test', 'val')
    """
    return {0: "test", 1: "val"}.get(int(name) % _FOLDS, "train")


def table_of(path: Path) -> np.ndarray:
    """Return the class of each published number, by the file's names.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "classes.json"
    ...     _ = file.write_text('["null", "hair", "coat"]')
    ...     table_of(file).tolist()
    [0, 2, 4]

    Raises:
      BadInput: the file is absent, no list of names, or has a name that no class gathers.
    """
    number = {name: i for i, names in enumerate(GATHERED.values()) for name in names}
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no list of the names of garments ({error}); {FACTS.source}") from None
    if not isinstance(names, list) or not names:
        raise BadInput(f"{path} is no list of the names of garments; {FACTS.source}")
    strange = [name for name in names if name not in number]
    if strange:
        raise BadInput(f"{path}: {strange[0]!r} is no name of Clothing Co-Parsing; classes gather {len(number)} names")
    return np.asarray([number[name] for name in names], np.uint8)


def _examples(source: Path, paths: list[Path], table: np.ndarray) -> Iterator[dict[str, Any]]:
    for path in paths:
        file = source / "labels" / f"{path.stem}.png"
        label = label_files.label_map(file)
        if label.max() >= len(table):
            raise BadInput(f"{file}: label value {label.max()} is outside 0..{len(table) - 1}, the names' numbers")
        yield label_files.example(path, table[label], path.stem)
