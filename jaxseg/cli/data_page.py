"""The page and the contact sheet that ``jaxseg data check`` leaves: one HTML file that needs no network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxseg.data.check import Checked
from jaxseg.data.check_depth import DepthRow
from jaxseg.data.facts import Facts
from jaxseg.data.records import Record
from jaxseg.files import atomic
from jaxseg.report.pictures import photograph
from jaxseg.viz.contact_sheet import Thumbnail, contact_sheet, thumbnail
from jaxseg.viz.palettes import class_colors

PICTURES = 24
"""Most pictures of a contact sheet."""


class Sample:
    """Keeps small pictures of examples spread evenly over a data set whose length is not known beforehand.

    >>> sample, facts = Sample(), Facts("cells", "", (), (), {})
    >>> for number in range(100):
    ...     sample.look(facts, "train", str(number), {"image": np.zeros((2, 2, 3), np.uint8)})
    >>> [each.name for each in sample.chosen(3)]
    ['train/0', 'train/48', 'train/96']
    """

    def __init__(self) -> None:
        self.facts: Facts | None = None
        self._kept: list[Thumbnail] = []
        self._every, self._seen = 1, 0

    def look(self, facts: Facts, split: str, name: str, record: Record) -> None:
        """Keep the picture of an example if it is one of those."""
        self.facts = facts
        if self._seen % self._every == 0:
            self._kept.append(thumbnail(f"{split}/{name}", record, facts))
            if len(self._kept) >= 2 * PICTURES:
                self._kept, self._every = self._kept[::2], self._every * 2
        self._seen += 1

    def chosen(self, most: int = PICTURES) -> list[Thumbnail]:
        """Return at most that many pictures, evenly spread."""
        places = np.unique(np.linspace(0, len(self._kept) - 1, min(most, len(self._kept))).round().astype(int))
        return [self._kept[place] for place in places.tolist()]


def write(folder: Path, checked: Checked, sample: Sample) -> list[Path]:
    """Write ``index.html`` and, if any image could be read, ``contact_sheet.png`` into a folder.

    Args:
      folder: made where it is missing.
      checked: what was found.
      sample: pictures.

    Returns:
      The files.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in write(Path(folder), Checked("cells", "pairs"), Sample())]
    ['index.html']
    """
    pictures, done = sample.chosen(), []
    if pictures:
        drawn = contact_sheet(pictures, sample.facts, title=checked.name)
        with atomic(folder / "contact_sheet.png") as part:
            Image.fromarray(drawn).save(part, format="PNG")
        done.append(folder / "contact_sheet.png")
    with atomic(folder / "index.html") as part:
        part.write_text(html(checked, pictures, sample.facts), encoding="utf-8")
    return [folder / "index.html", *done]


def html(checked: Checked, pictures: Sequence[Thumbnail], facts: Facts | None) -> str:
    """Return the page.

    Args:
      checked: what was found.
      pictures: examples.
      facts: for the colours of classes; None where they are not known.

    >>> "cells" in html(Checked("cells", "pairs"), [], None)
    True
    """
    import jinja2

    source = Path(__file__).with_name("data_page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    classes = checked.classes
    palette = class_colors(facts, np.arange(len(classes))) if facts is not None and classes else ()
    top = max((row.share for row in classes), default=1.0) or 1.0
    return environment.from_string(source).render(
        checked=checked,
        colours=["#" + bytes(colour).hex() for colour in palette],
        top=top,
        depth=None if checked.depth is None else depth_words(checked.depth),
        pictures=[(each.name, photograph(each.picture)) for each in pictures],
    )


def depth_words(depth: DepthRow) -> str:
    """Return what was found of depth, on one line.

    >>> depth_words(DepthRow(0.8, 1.87, 3.2, 0.11, 200))
    '0.8 to 3.2 m (the middle 98 %), median 1.87 m; 11.0 % of the pixels are missing; 200 images'
    """
    return (
        f"{depth.nearest:.3g} to {depth.farthest:.3g} m (the middle 98 %), median {depth.median:.3g} m; "
        f"{100 * depth.missing:.1f} % of the pixels are missing; {depth.images} images"
    )
