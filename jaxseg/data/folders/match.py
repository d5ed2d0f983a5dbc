"""Find the mask of every image: by name, by the suffixes of masks, or a file for each class."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxseg.data import problems
from jaxseg.data.folders.layout import Place, has_mask_suffix, image_names, is_other_mask, mask_names
from jaxseg.errors import BadInput, several


@dataclass(frozen=True)
class Pair:
    """An image and its masks: none, one of all classes (class None), or one of each class.

    >>> Pair(Place("a.png", None, None, "a"), ()).masks
    ()
    """

    image: Place
    masks: tuple[tuple[str | None, Place], ...]


def divide(root: Path, places: Sequence[Place], notes: list[str]) -> tuple[list[Place], list[Place]]:
    """Return the images and the masks among the pictures of a folder.

    Args:
      root: the folder, for messages.
      places: its pictures.
      notes: are added to.

    Raises:
      BadInput: there are no images, or no masks.

    >>> from jaxseg.data.folders.layout import place_of
    >>> images, masks = divide(Path("."), [place_of("a.jpg"), place_of("a_mask.png")], [])
    >>> images[0].path, masks[0].path
    ('a.jpg', 'a_mask.png')
    """
    images = [place for place in places if place.role == "image"]
    masks = [place for place in places if place.role == "mask" and not is_other_mask(place)]
    rest = [place for place in places if place.role is None]
    if not masks:
        images, masks = _by_suffix(images or rest)
    elif not images:
        images = rest
    elif rest:
        notes.append(f"outside the folders of images and left out: {several([place.path for place in rest])}")
    if not images and not masks:
        raise BadInput(
            f"{root} holds no image (.png, .jpg, .tif, .npy, ...); put images into images/, masks into masks/"
        )
    if not images:
        raise BadInput(f"{root} holds {len(masks)} masks but no images; put the images into images/ beside them")
    if not masks:
        raise BadInput(
            f"{root} holds {len(images)} images but no masks; put these into masks/ beside images/, named as the "
            "images are, or name their folder: --option masks=DIR (none takes the images alone)"
        )
    return images, masks


def match(root: Path, images: Sequence[Place], masks: Sequence[Place], notes: list[str]) -> list[Pair]:
    """Return every image with its masks; images of one name, and masks of one image, are a problem.

    Args:
      root: the folder, for messages.
      images: the images.
      masks: the masks.
      notes: are added to.

    >>> from jaxseg.data.folders.layout import place_of
    >>> (pair,) = match(Path("."), [place_of("images/a.jpg")], [place_of("masks/a_gt.png")], [])
    >>> pair.masks[0][1].path
    'masks/a_gt.png'
    """
    images = _without_twins(root, images)
    by_name: dict[tuple[str | None, str], list[Place]] = {}
    for mask in masks:
        for name in mask_names(mask):
            by_name.setdefault((mask.split, name), []).append(mask)
    splits = {mask.split for mask in masks}
    pairs = [Pair(image, _masks_of(root, image, by_name, splits)) for image in images]
    if not any(pair.masks for pair in pairs):
        pairs = _of_classes(images, masks) or pairs
    used = {mask.path for pair in pairs for _, mask in pair.masks}
    spare = [mask.path for mask in masks if mask.path not in used]
    if spare and used:
        notes.append(f"masks without an image, left out: {several(spare)}")
    return pairs


def _by_suffix(places: Sequence[Place]) -> tuple[list[Place], list[Place]]:
    """Divide pictures of one folder: ``a_mask.png`` beside ``a.jpg``, or ``a.png`` beside ``a.jpg`` or ``a.tif``."""
    names = {(place.split, name) for place in places for name in image_names(place)}
    masks = [place for place in places if _has_image(place, names)]
    if not masks:
        several: dict[tuple[str | None, str], list[Place]] = {}
        for place in places:
            several.setdefault((place.split, place.name), []).append(place)
        for group in several.values():
            pngs = [place for place in group if os.path.splitext(place.path)[1].lower() == ".png"]
            if len(group) == 2 and len(pngs) == 1:
                masks += pngs
    apart = {place.path for place in masks}
    return [place for place in places if place.path not in apart], masks


def _has_image(place: Place, names: set[tuple[str | None, str]]) -> bool:
    return has_mask_suffix(place) and any((place.split, name) in names for name in mask_names(place)[1:])


def _without_twins(root: Path, images: Iterable[Place]) -> list[Place]:
    found: dict[tuple[str | None, str], Place] = {}
    for image in images:
        other = found.setdefault((image.split, image.name), image)
        if other is not image:
            problems.report(
                f"{root / other.path} and {root / image.path} are two images of one name, so their mask is not "
                "certain; keep one of them or rename it"
            )
    return list(found.values())


def _masks_of(
    root: Path, image: Place, by_name: dict[tuple[str | None, str], list[Place]], splits: set[str | None]
) -> tuple[tuple[str | None, Place], ...]:
    wanted = [image.split, None] if image.split is not None else [None, *sorted(s for s in splits if s is not None)]
    for name in image_names(image):
        for split in wanted:
            found = by_name.get((split, name), [])
            exact = [mask for mask in found if mask.name == name]
            chosen = exact or [mask for mask in found if "trainids" in mask.stem.lower()] or found
            if len(chosen) > 1:
                first, second = (root / mask.path for mask in chosen[:2])
                problems.report(f"{first} and {second} are two masks of {image.path}; keep one of them")
            if chosen:
                return ((None, chosen[0]),)
    return ()


def _of_classes(images: Sequence[Place], masks: Sequence[Place]) -> list[Pair]:
    """Match masks of one class each: ``masks/CLASS/a.png``, ``masks/a/CLASS.png`` or ``masks/a_CLASS.png``."""
    names = {name for image in images for name in image_names(image)}
    for way in (_class_first, _class_last, _class_behind):
        found: dict[tuple[str | None, str], list[tuple[str | None, Place]]] = {}
        for mask in masks:
            named = way(mask, names)
            if named is not None:
                found.setdefault((mask.split, named[0]), []).append((named[1], mask))
        if found:
            return [Pair(image, _first(image, found)) for image in images]
    return []


def _first(image: Place, found: dict[tuple[str | None, str], list[tuple[str | None, Place]]]) -> tuple:
    for name in image_names(image):
        for split in (image.split, None):
            if (split, name) in found:
                return tuple(found[split, name])
    return ()


def _class_first(mask: Place, names: set[str]) -> tuple[str, str] | None:
    kind, slash, _ = mask.name.partition("/")
    fitting = [name[len(kind) + 1 :] for name in mask_names(mask) if slash and name[len(kind) + 1 :] in names]
    return (fitting[0], kind) if fitting else None


def _class_last(mask: Place, names: set[str]) -> tuple[str, str] | None:
    name, slash, kind = mask.name.rpartition("/")
    return (name, kind) if slash and name in names else None


def _class_behind(mask: Place, names: set[str]) -> tuple[str, str] | None:
    for end in range(len(mask.name) - 1, 0, -1):
        if mask.name[end] in "_-. " and mask.name[:end] in names:
            return mask.name[:end], mask.name[end + 1 :]
    return None
