"""Images alone, without labels: for tasks whose truth is the image itself, such as colorization."""

from pathlib import Path

from jaxseg.data.folders.item import Found, Item, Options, uniquely_named
from jaxseg.data.folders.layout import place_of
from jaxseg.data.listing import is_image, walk
from jaxseg.errors import BadInput

NONE = "none"
"""The option ``masks`` that asks for this."""


def read(root: Path, options: Options) -> Found:
    """Find all images of a folder; ``train``, ``val`` and ``test`` in their paths are splits.

    Args:
      root: the folder.
      options: :data:`jaxseg.data.folders.item.OPTIONS`.

    Raises:
      BadInput: there are none.

    >>> import tempfile
    >>> from jaxseg.data.folders.item import OPTIONS
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "val").mkdir()
    ...     (Path(folder) / "val" / "a.jpg").touch()
    ...     found = read(Path(folder), OPTIONS)
    ...     found.items[0].name, found.items[0].split, found.kind
    ('a', 'val', 'images without labels')
    """
    del options
    places = [place_of(path) for path in walk(root) if is_image(path)]
    if not places:
        raise BadInput(f"{root} holds no image (.png, .jpg, .tif, .npy, ...)")
    items = [Item(place.name, root / place.path, None, place.split) for place in places]
    return Found(root, uniquely_named(items), (), (), (), "images without labels")
