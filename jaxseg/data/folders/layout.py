"""Read the layout of a folder from its paths: which files are images or masks, of which split, and which is whose.

``train/images/a.jpg``, ``images_train/a.jpg`` and ``JPEGImages/a.jpg`` are images; ``masks/a.png``, ``a_mask.png``,
``trainannot/a.png`` and ``gtFine/train/x/a_gtFine_labelIds.png`` masks. What is left of a path without these words is
the image's name, by which masks are found.
"""

import os
import re
from dataclasses import dataclass

_SPLITS = {
    **dict.fromkeys(("train", "training", "trn", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
_IMAGES = {
    *("image", "images", "img", "imgs", "jpegimages", "leftimg8bit", "photo", "photos", "picture", "pictures", "input"),
    *("inputs", "rgb", "frames"),
}
_MASKS = {
    *("mask", "masks", "label", "labels", "annotation", "annotations", "annot", "annots", "gt", "gts", "gtfine"),
    *("groundtruth", "groundtruths", "target", "targets", "segmentation", "segmentations", "segmentationclass", "seg"),
    *("labelmap", "labelmaps"),
}
_NOISE = {"png", "jpg", "jpeg", "tif", "tiff", "data", "dataset", "set", "class", "ids", "index", "ground", "truth"}
_GLUED = re.compile(rf"({'|'.join(sorted(_SPLITS, key=len, reverse=True))})({'|'.join(sorted(_IMAGES | _MASKS))})")

_MASK_SUFFIX = re.compile(
    r"[_\-. ]+(gtfine_labeltrainids|gtfine_labelids|gtcoarse_labelids|labeltrainids|labelids|masks?|labels?|gt|"
    r"ground_?truth|seg|segmentation|annot|annotation|target)$",
    re.IGNORECASE,
)
_IMAGE_SUFFIX = re.compile(r"[_\-. ]+(leftimg8bit|image|img|sat|rgb|input)$", re.IGNORECASE)
_PREFIX = re.compile(r"^(image|img|mask|label|gt|seg)[_\-. ]+", re.IGNORECASE)
_OTHER_MASKS = re.compile(r"_(gtfine|gtcoarse)_(color|instanceids|instancetrainids)$", re.IGNORECASE)
"""Pictures beside the masks of Cityscapes that are none."""


@dataclass(frozen=True)
class Place:
    """A file, and what its path says.

    Attributes:
      path: below the root, with forward slashes.
      split: "train", "val", "test", or None.
      role: "image", "mask", or None where the folders do not say.
      name: the path without suffix and without the words of the layout.

    >>> place_of("train/images/a/b.jpg")
    Place(path='train/images/a/b.jpg', split='train', role='image', name='a/b')
    """

    path: str
    split: str | None
    role: str | None
    name: str

    @property
    def stem(self) -> str:
        """The file's name without suffix."""
        return os.path.splitext(self.path.rpartition("/")[2])[0]

    def named(self, stem: str) -> str:
        """Return the name with another stem."""
        return self.name[: len(self.name) - len(self.stem)] + stem


def split_named(word: str) -> str | None:
    """Return the split that a word names, None for another word.

    >>> split_named("Validation"), split_named("train2017"), split_named("trees")
    ('val', 'train', None)
    """
    return _SPLITS.get(re.sub(r"\d{4}$", "", word.lower()))


def place_of(path: str, masks: str | None = None) -> Place:
    """Return what the path of a file below the root says.

    Args:
      path: with forward slashes.
      masks: the folder of the masks, if its name is another than usual.

    >>> place_of("gtFine/val/ulm/ulm_1_gtFine_labelIds.png").name
    'ulm/ulm_1_gtFine_labelIds'
    >>> place_of("trainannot/a.png").role, place_of("data/x.png").role
    ('mask', None)
    """
    *folders, file = path.split("/")
    split, role, kept = None, None, []
    if masks is not None and path.startswith(masks.strip("/") + "/"):
        role, folders = "mask", folders[len(masks.strip("/").split("/")) :]
        split = next((found for part in masks.split("/") if (found := split_named(part))), None)
    fixed = role is not None
    for folder in folders:
        words = _words(folder)
        if words is None:
            kept.append(folder)
            continue
        split = next((found for word in words if (found := split_named(word))), split)
        if not fixed:
            role = "mask" if words & _MASKS else "image" if words & _IMAGES else role
    return Place(path, split, role, "/".join([*kept, os.path.splitext(file)[0]]))


def _words(folder: str) -> set[str] | None:
    """Return the words of a folder's name if all of them belong to layouts, None otherwise."""
    words: set[str] = set()
    for word in re.split(r"[_\-. ]+", folder.lower()):
        glued = _GLUED.fullmatch(word)
        words |= {glued[1], glued[2]} if glued else {word}
    known = {word for word in words if split_named(word) or word in _IMAGES | _MASKS | _NOISE}
    spare = {word for word in words - known if word and not (known and word.isdigit())}
    return None if spare or not known else words


def is_other_mask(place: Place) -> bool:
    """Return True for pictures that lie beside masks and are none.

    >>> is_other_mask(place_of("gtFine/val/ulm/ulm_1_gtFine_color.png"))
    True
    """
    return _OTHER_MASKS.search(place.stem) is not None


def mask_names(place: Place) -> tuple[str, ...]:
    """Return the names under which the image of a mask may be found, the likeliest first.

    >>> mask_names(place_of("masks/a_mask.png"))
    ('a_mask', 'a')
    """
    bare = _MASK_SUFFIX.sub("", place.stem) or place.stem
    return tuple(dict.fromkeys(place.named(stem) for stem in (place.stem, bare, _PREFIX.sub("", bare) or bare)))


def image_names(place: Place) -> tuple[str, ...]:
    """Return the names under which the mask of an image may be found, the likeliest first.

    >>> image_names(place_of("leftImg8bit/val/ulm/ulm_1_leftImg8bit.png"))
    ('ulm/ulm_1_leftImg8bit', 'ulm/ulm_1')
    """
    bare = _IMAGE_SUFFIX.sub("", place.stem) or place.stem
    return tuple(dict.fromkeys(place.named(stem) for stem in (place.stem, bare, _PREFIX.sub("", bare) or bare)))


def has_mask_suffix(place: Place) -> bool:
    """Return True if a file's name ends as that of a mask: ``a_mask.png``.

    >>> has_mask_suffix(place_of("a_labelIds.png")), has_mask_suffix(place_of("mask.png"))
    (True, False)
    """
    return _MASK_SUFFIX.search(place.stem) is not None
