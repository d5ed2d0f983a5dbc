"""Tables of categories: COCO's own, those of your files, and a choice of them, things before stuff."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxseg.data import coco_tables
from jaxseg.data.coco_json import Category, CocoFile
from jaxseg.errors import BadInput, suggest
from jaxseg.types import VOID


def official() -> list[Category]:
    """Return COCO's categories.

    >>> len(official()), official()[16].name
    (133, 'dog')
    """
    ids, names = coco_tables.THING_IDS + coco_tables.STUFF_IDS, coco_tables.THINGS + coco_tables.STUFF
    return [
        Category(number, name, name in coco_tables.THINGS, coco_tables.JOINTS if name == "person" else (), colour)
        for number, name, colour in zip(ids, names, coco_tables.PALETTE, strict=True)
    ]


def check_official(files: Sequence[CocoFile]) -> list[Category]:
    """Return COCO's categories if that is what the files use.

    Raises:
      BadInput: a file has a category that COCO has not, or calls it otherwise.

    >>> len(check_official([]))
    133
    """
    known = {category.id: category.name for category in official()}
    for file in files:
        for number, category in file.categories.items():
            if known.get(number) != category.name:
                there = f"is {known[number]!r}" if number in known else "is not"
                raise BadInput(
                    f"{file.path}: category {number} is {category.name!r}, which {there} in COCO's table; for classes "
                    f"of your own use the option json={file.path.name!r} of data set 'coco'"
                )
    return official()


def merge_tables(files: Sequence[CocoFile]) -> list[Category]:
    """Return the categories of all files, things first, by their ids.

    Raises:
      BadInput: two files call a category differently, or there are more than a label map holds.

    >>> merge_tables([])
    []
    """
    found: dict[int, Category] = {}
    for file in files:
        for number, category in file.categories.items():
            other = found.get(number, category)
            if other.name != category.name:
                raise BadInput(f"{file.path}: category {number} is {category.name!r}, in another file {other.name!r}")
            found[number] = Category(
                id=number,
                name=category.name,
                thing=category.thing and other.thing,
                joints=category.joints or other.joints,
                colour=category.colour or other.colour,
            )
    if len(found) >= VOID:
        raise BadInput(f"{files[0].path} has {len(found)} categories; label maps hold {VOID - 1} at most")
    return sorted(found.values(), key=lambda category: (not category.thing, category.id))


def choose(table: Sequence[Category], names: Sequence[str]) -> list[Category]:
    """Return the categories of these names, things first, in their order; all of them if there are no names.

    Raises:
      BadInput: there is none of a name.

    >>> [category.id for category in choose(official(), ("dog", "person"))]
    [18, 1]
    """
    by_name = {category.name: category for category in table}
    for name in names:
        if name not in by_name:
            raise BadInput(f"data set 'coco' has no class {name!r}{suggest(name, by_name)}")
    chosen = [by_name[name] for name in names] if names else list(table)
    return sorted(chosen, key=lambda category: not category.thing)


def joints_of(table: Sequence[Category]) -> tuple[str, ...]:
    """Return the names of the keypoints, of the one category that has some or of several that have the same.

    Raises:
      BadInput: categories have different keypoints.

    >>> joints_of(official())[0]
    'nose'
    """
    several = {category.joints: category.name for category in table if category.joints}
    if len(several) > 1:
        raise BadInput(f"the categories {', '.join(several.values())} have different keypoints; choose by 'classes'")
    return next(iter(several), ())


def to_row(category: Category) -> dict[str, Any]:
    """Return a category as JSON.

    >>> from_row(to_row(Category(18, "dog"))) == Category(18, "dog")
    True
    """
    colour = list(category.colour) if category.colour else None
    joints = list(category.joints)
    return {"id": category.id, "name": category.name, "thing": category.thing, "joints": joints, "colour": colour}


def from_row(row: Mapping[str, Any]) -> Category:
    """Return a category of its JSON.

    >>> from_row({"id": 18, "name": "dog", "thing": True, "joints": [], "colour": None}).name
    'dog'
    """
    colour = tuple(row["colour"]) if row["colour"] else None
    return Category(row["id"], row["name"], row["thing"], tuple(row["joints"]), colour)
