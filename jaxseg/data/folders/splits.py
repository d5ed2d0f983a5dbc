"""Divide a folder's images into splits: as the folder has them, or by a hash of the name, so that none ever moves."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jaxseg.data.folders.item import Item
from jaxseg.errors import BadInput


def grouped(items: Sequence[Item], pattern: str | None) -> tuple[Item, ...]:
    """Return the items with the groups that a regular expression finds in their names.

    Args:
      items: images; those with a group keep it.
      pattern: its first group, or the whole match, is the name of the group; images that it does not match are alone.

    Raises:
      BadInput: the expression is none, or matches no name.

    >>> from pathlib import Path
    >>> grouped([Item("film3_0001", Path("a.png"), None)], r"film\\d+")[0].group
    'film3'
    """
    if pattern is None:
        return tuple(items)
    try:
        found = [re.search(pattern, item.name) for item in items]
    except (re.error, TypeError) as error:
        raise BadInput(f"option group: {pattern!r} is not a regular expression ({error})") from None
    if items and not any(found):
        raise BadInput(f"option group: {pattern!r} matches no name, such as {items[0].name!r}")
    of = [None if one is None else one[1] if one.re.groups and one[1] is not None else one[0] for one in found]
    return tuple(replace(item, group=item.group or group) for item, group in zip(items, of, strict=True))


def divided(items: Sequence[Item], shares: Any) -> tuple[dict[str, tuple[Item, ...]], tuple[str, ...]]:
    """Return the images of each split, and a note where splits were made.

    The folder's own splits stay. Images without one, or of ``train`` where there is no ``val``, are divided by a hash
    of their group or name: adding images never moves others. Where none would be set apart, those of the smallest
    hash are.

    Args:
      items: images.
      shares: of ``val``, or of ``val`` and ``test``.

    Raises:
      BadInput: the shares are none.

    >>> from pathlib import Path
    >>> items = [Item(str(number), Path("a.png"), None) for number in range(100)]
    >>> {split: len(found) for split, found in divided(items, 0.2)[0].items()}
    {'train': 86, 'val': 14}
    """
    val, test = _shares(shares)
    own = {item.split for item in items} - {None}
    loose = [item for item in items if item.split is None or (item.split == "train" and "val" not in own)]
    if not loose or not val + test:
        return _by_split([item if item.split else replace(item, split="train") for item in items]), ()
    keys = sorted({_key(item) for item in loose}, key=_hash)
    where = {key: "test" if _hash(key) < test else "val" if _hash(key) < test + val else "train" for key in keys}
    for number, split in enumerate(split for split, share in (("test", test), ("val", val)) if share):
        if len(keys) > 2 and split not in where.values():
            where[keys[number]] = split
    if len(keys) == 2 and len(set(where.values())) == 1:
        where = {keys[0]: "val" if val else "test", keys[1]: "train"}
    if len(keys) > 1 and "train" not in where.values():
        where[keys[-1]] = "train"
    loose_names = {item.name for item in loose}
    done = _by_split([replace(item, split=where[_key(item)]) if item.name in loose_names else item for item in items])
    counts = ", ".join(f"{split} {len(found)}" for split, found in done.items())
    of = "images" if len(keys) == len(loose) else f"{len(keys)} groups"
    return done, (f"splits by a hash of the names of {of}: {counts}",)


def _shares(shares: Any) -> tuple[float, float]:
    pair = shares if isinstance(shares, tuple | list) else (shares, 0)
    if len(pair) != 2 or not all(isinstance(share, int | float) and 0 <= share < 1 for share in pair) or sum(pair) >= 1:
        raise BadInput(f"option split is {shares!r}; it is the share of val, 0.2, or those of val and test, (0.2, 0.1)")
    return float(pair[0]), float(pair[1])


def _key(item: Item) -> str:
    return item.group if item.group is not None else item.name


def _hash(key: str) -> float:
    """Return a number from 0 to below 1."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:4], "big") / 2**32


def _by_split(items: Sequence[Item]) -> dict[str, tuple[Item, ...]]:
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(str(item.split), []).append(item)
    order = [split for split in ("train", "val", "test") if split in found]
    return {split: tuple(found[split]) for split in dict.fromkeys([*order, *found])}
