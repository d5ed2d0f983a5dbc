"""Which examples a split's name stands for: ``train``, ``train[:20]``, ``train[80%:]``, ``train+val``."""

from collections.abc import Callable

from jaxseg.errors import BadInput


def names_in(spec: str) -> list[str]:
    """Return the splits that a name speaks of.

    >>> names_in("train[:20]+val")
    ['train', 'val']
    """
    return [part.split("[")[0].strip() for part in spec.split("+")]


def chosen(spec: str, length: Callable[[str], int]) -> list[tuple[str, range]]:
    """Return the parts that a name stands for: splits, and the examples of each.

    Args:
      spec: the name.
      length: returns the number of examples of a split.

    Raises:
      BadInput: it is no name of a split, nor a slice or a sum of some, or stands for no example.

    >>> chosen("train[50%:]+val", {"train": 10, "val": 3}.__getitem__)
    [('train', range(5, 10)), ('val', range(0, 3))]
    """
    import tensorflow_datasets as tfds

    lengths = {name: length(name) for name in dict.fromkeys(names_in(spec))}
    try:
        infos = {
            name: tfds.core.SplitInfo(name=name, shard_lengths=[count], num_bytes=0, filename_template=None)
            for name, count in lengths.items()
        }
        parts = tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)
    except (ValueError, AssertionError):
        raise BadInput(
            f"{spec!r} is not a split nor a slice of one such as 'train[:20]' or 'train[80%:]', nor a sum of those"
        ) from None
    found = []
    for part in parts:
        first = 0 if part.from_ is None else part.from_
        last = lengths[part.splitname] if part.to is None else part.to
        found.append((part.splitname, range(first, last)))
    if not sum(len(places) for _, places in found):
        raise BadInput(f"{spec!r} holds no example")
    return found
