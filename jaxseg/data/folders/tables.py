"""Tables of classes in a folder: ``classes.csv``, ``classes.json``, ``_classes.csv``, ``labelmap.txt`` and their kin.

A table gives the classes' names in their order, and either the numbers or the colours that masks hold for them; a table
of names alone numbers them from 0. Columns of a CSV are found by their titles (``name``, ``r g b`` or ``color``,
``id``) or, without titles, by their values.
"""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxseg.data.folders.item import Colour
from jaxseg.errors import BadInput

NAMES = (
    *("classes.csv", "classes.json", "_classes.csv", "class_dict.csv", "classes.txt", "labelmap.txt", "labels.txt"),
    *("label_colors.txt", "label_colors.csv", "colors.csv", "dataset.json"),
)
"""Files that hold a table; of several, the first of this list counts."""

VOIDS = ("void", "ignore", "__ignore__")
"""Classes of these names are no classes: their pixels are void."""

_TITLES = {
    "name": ("name", "class", "classes", "classname", "label", "labels", "category"),
    "value": ("id", "value", "pixelvalue", "index", "number", "labelid", "classid", "gray", "grey"),
    "colour": ("color", "colour", "rgb", "colorrgb", "hex"),
    "r": ("r", "red"),
    "g": ("g", "green"),
    "b": ("b", "blue"),
}


@dataclass(frozen=True)
class Row:
    """A class of a table: its name, and the number or the colour that masks hold for it.

    >>> Row("road", None, (128, 64, 128)).value is None
    True
    """

    name: str
    value: int | None
    colour: Colour | None


@dataclass(frozen=True)
class Table:
    """Classes in their order, void among them, and the file that they are from.

    >>> Table("classes.csv", (Row("road", 0, None),)).rows[0].name
    'road'
    """

    file: str
    rows: tuple[Row, ...]


def find_table(root: Path, files: Iterable[str]) -> Table | None:
    """Return the table of a folder, None where there is none.

    Args:
      root: the folder.
      files: below it, with forward slashes.

    Raises:
      BadInput: a table cannot be understood, or two of one name differ.

    >>> find_table(Path("."), ["images/a.png"]) is None
    True
    """
    for wanted in NAMES:
        paths = sorted(
            (file for file in files if file.rsplit("/", 1)[-1].lower() == wanted), key=lambda f: f.count("/")
        )
        if wanted == "dataset.json":
            paths = [path for path in paths if path.lower() == wanted and "labels" in _json(root / path)]
        if paths:
            tables = [read_table(root / path) for path in paths]
            for path, table in zip(paths, tables, strict=True):
                if table.rows != tables[0].rows:
                    raise BadInput(f"{root / path} and {root / paths[0]} name other classes; keep one of them")
            return tables[0]
    return None


def read_table(path: Path) -> Table:
    """Read a table of classes, in a CSV (comma, semicolon or tab), a JSON or a text file.

    Raises:
      BadInput: a row cannot be understood, or two rows have one name, number or colour.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "classes.csv"
    ...     _ = path.write_text("name,r,g,b\\nroad,128,64,128\\nvoid,0,0,0\\n")
    ...     read_table(path).rows[0]
    Row(name='road', value=None, colour=(128, 64, 128))
    """
    if path.suffix.lower() == ".json":
        rows = _of_json(path, _json(path))
    elif path.name.lower() == "labelmap.txt":
        rows = [_cvat(path, line) for line in _lines(path) if not line.startswith("#")]
    elif path.suffix.lower() == ".csv":
        rows = _of_csv(path)
    else:
        rows = [_of_words(path, line) for line in _lines(path)]
    if not rows:
        raise BadInput(f"{path} names no class; a row is NAME,R,G,B or NAME,NUMBER")
    return Table(path.name, _checked(path, rows))


def parse_table(items: Sequence[str]) -> Table:
    """Return the table that the option ``classes`` spells: names, each alone or with its number or its colour.

    Raises:
      BadInput: two classes have one name, number or colour.

    >>> parse_table(["road=#804080", "car=#400080"]).rows[1].colour
    (64, 0, 128)
    """
    rows = []
    for item in items:
        name, equals, code = item.strip().rpartition("=")
        colour, number = parse_colour(code), re.fullmatch(r"\d+", code)
        if not equals or (colour is None and number is None):
            rows.append(Row(item.strip(), None, None))
        else:
            rows.append(Row(name.strip(), int(code) if number else None, None if number else colour))
    return Table("the option classes", _checked(Path("the option classes"), rows))


def parse_colour(text: str) -> Colour | None:
    """Return the colour that a text names: ``#ff8000``, ``255 128 0``, ``(255, 128, 0)``; None for another text.

    >>> parse_colour("#ff8000"), parse_colour("[255, 128, 0]"), parse_colour("red")
    ((255, 128, 0), (255, 128, 0), None)
    """
    text = text.strip().strip("\"'")
    found = re.fullmatch(r"#?([0-9a-fA-F]{6})", text)
    if found and (text.startswith("#") or not text.isdigit()):
        return int(found[1][:2], 16), int(found[1][2:4], 16), int(found[1][4:], 16)
    numbers = re.fullmatch(r"[(\[]?\s*(\d{1,3})\s*[,; ]\s*(\d{1,3})\s*[,; ]\s*(\d{1,3})\s*[)\]]?", text)
    if numbers and max(map(int, numbers.groups())) < 256:
        return int(numbers[1]), int(numbers[2]), int(numbers[3])
    return None


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not text in UTF-8 ({error.reason}); save it as UTF-8") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except ValueError as error:
        raise BadInput(f"{path} is not JSON: {error}") from None


def _of_csv(path: Path) -> list[Row]:
    text = _text(path)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)]
    if not rows:
        return []
    titles = [re.sub(r"[^a-z]", "", title.lower()) for title in rows[0]]
    columns = {key: next((titles.index(t) for t in names if t in titles), None) for key, names in _TITLES.items()}
    if columns["name"] is None:
        if any(title in sum(_TITLES.values(), ()) for title in titles):
            raise BadInput(f"{path} has no column of names; the first row of a table is name,r,g,b or name,id")
        return [_of_cells(path, row) for row in rows]
    return [_of_titles(path, row, columns) for row in rows[1:]]


def _of_titles(path: Path, row: Sequence[str], columns: Mapping[str, int | None]) -> Row:
    def cell(key: str) -> str:
        column = columns[key]
        return row[column] if column is not None and column < len(row) else ""

    colour = None
    rgb = [cell(key) for key in "rgb"]
    if any(rgb):
        colour = parse_colour(" ".join(rgb))
    elif cell("colour"):
        colour = parse_colour(cell("colour"))
    if colour is None and (any(rgb) or cell("colour")):
        raise BadInput(f"{path}: row {','.join(row)!r} has no colour of three numbers 0..255 or #rrggbb")
    value = _number(path, cell("value"), ",".join(row)) if cell("value") else None
    if not cell("name"):
        raise BadInput(f"{path}: row {','.join(row)!r} has no name")
    return Row(cell("name"), value, colour)


def _of_cells(path: Path, cells: Sequence[str]) -> Row:
    """Return the class of a row without titles: a name with three numbers, with a colour, with a number, or alone."""
    cells = [cell for cell in cells if cell]
    names = [cell for cell in cells if not re.fullmatch(r"-?\d+", cell) and parse_colour(cell) is None]
    numbers = [cell for cell in cells if re.fullmatch(r"-?\d+", cell)]
    colours = [colour for cell in cells if (colour := parse_colour(cell)) is not None]
    whole = ",".join(cells)
    if len(names) != 1 or len(numbers) not in (0, 1, 3, 4) or len(colours) > 1:
        raise BadInput(f"{path}: row {whole!r} is neither NAME,R,G,B nor NAME,NUMBER nor NAME")
    if len(numbers) >= 3:
        colours = [colour for colour in [parse_colour(" ".join(numbers[-3:]))] if colour is not None]
        if not colours:
            raise BadInput(f"{path}: row {whole!r} has no colour of three numbers 0..255")
    value = _number(path, numbers[0], whole) if len(numbers) in (1, 4) else None
    return Row(names[0], value, colours[0] if colours else None)


def _of_words(path: Path, line: str) -> Row:
    """Return the class of a line of text: a name, or three numbers and a name in either order."""
    found = re.fullmatch(
        r"(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+(.+)|(.+?)[\s,]+(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})", line
    )
    if found is None:
        return Row(line.rstrip(","), None, None)
    name, rgb = (found[4], found.groups()[:3]) if found[4] else (found[5], found.groups()[5:])
    return _of_cells(path, [name.strip(), *(number or "" for number in rgb)])


def _cvat(path: Path, line: str) -> Row:
    name, _, rest = line.partition(":")
    colour = parse_colour(rest.split(":")[0])
    if colour is None:
        raise BadInput(f"{path}: line {line!r} is not NAME:R,G,B:PARTS:ACTIONS")
    return Row(name.strip(), None, colour)


def _of_json(path: Path, found: Any) -> list[Row]:
    """Return the classes of a list of names or objects, of names with numbers or colours, of numbers with names."""
    if isinstance(found, dict):
        inner = next(
            (found[key] for key in ("classes", "labels", "categories") if isinstance(found.get(key), list | dict)), None
        )
        found = found if inner is None else inner
    if isinstance(found, dict):
        numbered = bool(found) and all(
            re.fullmatch(r"\d+", key) and isinstance(name, str) for key, name in found.items()
        )
        entries = [{"name": v, "id": int(k)} if numbered else {"name": k, **_entry(v)} for k, v in found.items()]
    elif isinstance(found, list):
        entries = [entry if isinstance(entry, dict) else {"name": entry} for entry in found]
    else:
        entries = []
    rows = []
    for entry in entries:
        flat = {re.sub(r"[^a-z]", "", str(key).lower()): value for key, value in entry.items()}
        name, value, colour = (
            next((flat[t] for t in _TITLES[k] if t in flat), None) for k in ("name", "value", "colour")
        )
        parsed = None if colour is None else parse_colour(str(colour))
        if not isinstance(name, str) or not name or (colour is not None and parsed is None):
            raise BadInput(
                f'{path}: {json.dumps(entry)} is no class; one is {{"name": "road", "color": [128, 64, 128]}}'
            )
        rows.append(Row(name, None if value is None else _number(path, str(value), name), parsed))
    return rows


def _entry(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {"color": value} if isinstance(value, list | str) else {"id": value}


def _number(path: Path, text: str, row: str) -> int:
    if not re.fullmatch(r"-?\d+", text):
        raise BadInput(f"{path}: {text!r} of row {row!r} is not a whole number")
    return int(text)


def _checked(path: Path, rows: list[Row]) -> tuple[Row, ...]:
    """Return the rows if no two are alike, and all of them or none have a number, and a colour."""
    values = [row.value for row in rows if row.value is not None]
    colours = [row.colour for row in rows if row.colour is not None and row.name.lower() not in VOIDS]
    columns: dict[str, Sequence[object]] = {"name": [row.name for row in rows], "number": values, "colour": colours}
    for what, found in columns.items():
        twice = next((value for number, value in enumerate(found) if value in found[:number]), None)
        if twice is not None:
            raise BadInput(f"{path}: two rows have the {what} {twice!r}")
    given = {"number": [row.value is not None for row in rows], "colour": [row.colour is not None for row in rows]}
    for what, has in given.items():
        if any(has) and not all(has):
            lacking = rows[has.index(False)].name
            raise BadInput(f"{path}: {lacking!r} has no {what}, though others have; give one to every row or to none")
    return tuple(rows)
