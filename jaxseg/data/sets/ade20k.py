"""ADE20K as its scene parsing benchmark cuts it: 150 classes, images of all sizes (Zhou et al. 2017, arXiv:1608.05442).

Source folder: ``ADEChallengeData2016`` as its archive unpacks, or its parent: ``images/training/NAME.jpg``,
``annotations/training/NAME.png``, likewise ``validation``. Annotations hold 1 to 150, and 0 for everything else, which
becomes void.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data import label_files
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.listing import find_image, images_in
from jaxseg.errors import BadInput

GENERATED = False
ENCODED = ("image", "label")

CLASSES = (
    "wall building sky floor tree ceiling road bed windowpane grass cabinet sidewalk person earth door table "
    "mountain plant curtain chair car water painting sofa module_name house sea mirror rug field armchair seat "
    "fence desk rock wardrobe lamp bathtub railing cushion base box column signboard chest_of_drawers "
    "counter sand sink skyscraper fireplace refrigerator grandstand path stairs runway case pool_table "
    "pillow screen_door stairway river bridge bookcase blind coffee_table toilet flower book hill bench "
    "countertop stove palm kitchen_island computer swivel_chair boat bar arcade_machine hovel bus towel "
    "light truck tower chandelier awning streetlight booth television_receiver airplane dirt_track apparel "
    "pole land bannister escalator ottoman bottle buffet poster stage van ship fountain conveyer_belt canopy "
    "washer plaything swimming_pool stool barrel basket waterfall tent bag minibike cradle oven ball food "
    "step tank trade_name microwave pot animal bicycle lake dishwasher screen blanket sculpture hood sconce "
    "vase traffic_light tray ashcan fan pier crt_screen plate monitor bulletin_board shower radiator glass "
    "clock flag "
)
"""By falling share of the pixels: the first name of each row of the benchmark's objectInfo150.txt."""

COLOURS = (
    "787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33 ff0652 "
    "8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff 08ffd6 07ffe0 "
    "ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff eb0cff a09614 00a3ff "
    "8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff 0bc8c8 ff5200 00fff5 003dff "
    "00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad 0a00ff adff00 00ff99 ff5c00 ff00ff "
    "ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2 00ff52 000aff 0070ff 3300ff 00c2ff 007aff "
    "00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa 8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 "
    "5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3 ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 "
    "0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff 00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff "
    "b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff "
)
"""As the benchmark draws its classes."""

FACTS = Facts(
    name="ade20k",
    summary="indoor and outdoor scenes of all sizes, 150 classes",
    classes=tuple(name.replace("_", " ") for name in CLASSES.split()),
    palette=tuple((c >> 16, c >> 8 & 255, c & 255) for c in (int(colour, 16) for colour in COLOURS.split())),
    splits={"train": 20210, "val": 2000},
    licence="annotations BSD 3-clause; images for non-commercial research and education only",
    url="http://sceneparsing.csail.mit.edu",
    source="ADEChallengeData2016.zip of http://sceneparsing.csail.mit.edu, unpacked",
    citation="Zhou, Zhao, Puig, Fidler, Barriuso, Torralba, CVPR 2017",
)

_FOLDERS = {"train": "training", "val": "validation"}


class Ade20k(LocalBuilder):
    """Write the splits that the source folder holds, by name.

    >>> Ade20k.FACTS.num_classes
    150
    """

    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Return image, label as PNG, and the image's name."""
        return label_files.features()

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return train and val, those that are there.

        Raises:
          BadInput: none is.
        """
        assert source is not None
        root = next((p for p in (source / "ADEChallengeData2016", source) if (p / "images").is_dir()), source)
        splits = {}
        for split, folder in _FOLDERS.items():
            images = images_in(root / "images" / folder, (".jpg", ".jpeg"))
            if images:
                splits[split] = _examples(images, root / "annotations" / folder)
        if not splits:
            raise BadInput(f"{source} holds no images/training/*.jpg; {FACTS.source}")
        return splits


Builder = Ade20k
to_record = label_files.to_record


def _examples(images: list[Path], annotations: Path) -> Examples:
    return len(images), (_example(path, annotations) for path in images)


def _example(path: Path, annotations: Path) -> dict[str, Any]:
    number = label_files.label_map(find_image(annotations, path.stem, (".png",)), dict(enumerate(FACTS.palette, 1)))
    if number.max() > FACTS.num_classes:
        raise BadInput(f"{annotations / path.stem}.png: label value {number.max()} is outside 0..{FACTS.num_classes}")
    # 0 becomes 255, which is void
    return label_files.example(path, number - np.uint8(1), path.stem)
