"""Exports of label-studio in its formats JSON and JSON-MIN (labelstud.io/guide/export), beside the images.

::

    project/
      project-1.json     results: polygonlabels, brushlabels, rectanglelabels, ellipselabels
      images/a.png ...   anywhere below the folder, under the name that they were uploaded with or the one that
                         label-studio gave them (1a2b3c4d-a.png)

Coordinates are in percent of the image. Of several annotations of one task the one marked as ground truth counts, or
else the latest; cancelled ones do not. Tasks without an annotation are left out and noted. Later results lie over
earlier ones. The classes are in the order of their names, since the export has no table; the option ``classes`` gives
another.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from jaxseg.data import problems
from jaxseg.data.folders import exports, outlines
from jaxseg.data.folders.item import Found, Options
from jaxseg.data.folders.lookup import Images, files_below, head_of, read_json, split_in
from jaxseg.data.folders.shapes import Annotated, Draw, Shape
from jaxseg.data.listing import SUFFIXES
from jaxseg.data.notes import note
from jaxseg.errors import BadInput

LABELS = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels", "labels")
"""Where a result with an area has its label."""

_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")


def recognises(root: Path) -> bool:
    """Return True if JSON of label-studio lies below the folder.

    >>> recognises(Path("nowhere"))
    False
    """
    return any(_is_label_studio(path) for path in files_below(root, (".json",))[:20])


def read(root: Path, options: Options) -> Found:
    """Return what an export of label-studio holds.

    Raises:
      BadInput: a file is not what it should be, or an image is not there.

    >>> import json, tempfile
    >>> from jaxseg.data.folders.item import OPTIONS
    >>> value = {"points": [[0, 0], [50, 0], [50, 50], [0, 50]], "polygonlabels": ["cell"]}
    >>> result = {"type": "polygonlabels", "original_width": 4, "original_height": 4, "value": value}
    >>> task = {"id": 1, "data": {"image": "/data/upload/1/1a2b3c4d-a.png"}, "annotations": [{"result": [result]}]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "project.json").write_text(json.dumps([task]))
    ...     _ = (Path(folder) / "a.png").write_bytes(b"")
    ...     read(Path(folder), OPTIONS).items[0].label()[0].tolist()
    [1, 1, 0, 0]
    """
    images, several = Images(root, skip_missing=options["skip_missing"]), []
    for path in files_below(root, (".json",)):
        if not _is_label_studio(path):
            continue
        with problems.each():
            tasks = read_json(path)
            if not isinstance(tasks, list):
                raise BadInput(f"{path} is no list of tasks; export it as JSON")
            for number, task in enumerate(tasks, 1):
                with images.each():
                    each = _annotated(task, number, path, root, images)
                    several += [] if each is None else [each]
    seen: dict[Any, Path] = {}
    for each in several:
        if each.image in seen:
            problems.report(f"{each.files[0]}: two tasks are of {each.image}; export one of them")
        seen[each.image] = each.files[0]
    names = sorted({shape.name for each in several for shape in exports.shapes_of(each)})
    notes = [*([] if options["classes"] else ["classes are in the order of their names"]), *images.notes()]
    return exports.found(root, several, names, options, kind="label-studio", where=root, ordered=True, notes=notes)


def _is_label_studio(path: Path) -> bool:
    head = head_of(path)
    if not head.lstrip().startswith(b"["):
        return False
    return b'"original_width"' in head or (b'"annotations"' in head and b'"data"' in head and b'"id"' in head)


def _annotated(task: Any, number: int, path: Path, root: Path, images: Images) -> Annotated | None:
    if not isinstance(task, Mapping):
        raise BadInput(f"{path}: task {number} is no object; export it as JSON")
    where = f"{path}: task {task.get('id', number)}"
    results = _results(task, where)
    if results is None:
        note("tasks without an annotation, left out", f"{path.name} task {task.get('id', number)}")
        return None
    data = task.get("data")
    image = _image(data if isinstance(data, Mapping) else task, str(task.get("file_upload") or ""), where, path, images)
    sizes = {(row.get("original_height"), row.get("original_width")) for row in results}
    if len(sizes) > 1:
        raise BadInput(f"{where} has results for images of several sizes; annotate one image in a task")
    height, width = next(iter(sizes), (None, None))
    size = (int(height), int(width)) if isinstance(height, int) and isinstance(width, int) else None
    made = [
        _shape(row, f"{path.name} task {task.get('id', number)} result {i}", f"{where}, result {i}")
        for i, row in enumerate(results, 1)
    ]
    inner = image.relative_to(root)
    return Annotated(
        name=inner.with_suffix("").as_posix(),
        image=image,
        size=size,
        shapes=tuple(shape for shape in made if shape is not None),
        files=(path,),
        split=split_in(inner.parent.parts),
    )


def _results(task: Mapping[str, Any], where: str) -> list[Mapping[str, Any]] | None:
    """Return the results of the annotation that counts, None without one; of JSON-MIN in the form of JSON."""
    if "annotations" not in task and "completions" not in task:
        rows = [row for value in task.values() if isinstance(value, list) for row in value if isinstance(row, Mapping)]
        rows = [row for row in rows if "original_width" in row]
        return [{**row, "value": row} for row in rows] or None
    given = task.get("annotations") or task.get("completions") or []
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
        raise BadInput(f"{where} has annotations that are no list; export it as JSON")
    valid = [one for one in given if not one.get("was_cancelled") and not one.get("skipped")]
    if not valid:
        return None
    if len(valid) > 1:
        note("tasks with several annotations, of which the ground truth or else the latest counts", where)
    chosen = max(valid, key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at") or "")))
    results = chosen.get("result") or []
    if not isinstance(results, list) or not all(isinstance(row, Mapping) for row in results):
        raise BadInput(f"{where} has results that are no list; export it as JSON")
    return [row for row in results if isinstance(row.get("value"), Mapping) and row.get("type") != "choices"]


def _image(data: Mapping[str, Any], upload: str, where: str, path: Path, images: Images) -> Path:
    """Return the file of a task: of the first entry of its data that looks like an image."""
    named = [value for _, value in sorted(data.items(), key=lambda pair: pair[0] != "image") if isinstance(value, str)]
    names = [_file_name(value) for value in named] + [upload]
    names = [name for name in names if name.lower().endswith(SUFFIXES)]
    if not names:
        raise BadInput(f"{where} names no image in its data; export it with the images' addresses")
    tried = [variant for name in names for variant in dict.fromkeys((name, _without_hash(name)))]
    found = [images.search(name, where=where, near=[path.parent]) for name in tried]
    return next((file for file in found if file is not None), None) or images.find(tried[-1], where=where)


def _file_name(address: str) -> str:
    """Return the path in an address: of a URL, of ``/data/local-files/?d=...``, or as it is."""
    parts = urlsplit(address)
    inner = parse_qs(parts.query).get("d")
    return inner[0] if inner else unquote(parts.path)


def _without_hash(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{_UPLOADED.sub('', file)}"


def _shape(row: Mapping[str, Any], where: str, fault: str) -> Shape | None:
    value = row["value"]
    labels = next((value[key] for key in LABELS if key in value), None)
    if labels is None or not {"points", "rle", "height", "radiusX"} & set(value):
        note("results without an area or a label, passed over", where)
        return None
    if not isinstance(labels, list) or len(labels) != 1:
        raise BadInput(f"{fault} has not one label but {labels!r}; choose one in label-studio")
    if float(row.get("image_rotation") or 0) % 360:
        raise BadInput(f"{fault} is of an image that was turned in label-studio; turn the file and annotate that")
    height, width = row.get("original_height"), row.get("original_width")
    if not isinstance(height, int) or not isinstance(width, int):
        raise BadInput(f"{fault} has no original_width and original_height; export it as JSON")
    try:
        return Shape(str(labels[0]), where, _draw(value, height, width))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{fault} lacks or misspells {error}; export it as JSON") from None


def _draw(value: Mapping[str, Any], height: int, width: int) -> Draw:
    across, down = width / 100, height / 100
    turn = float(value.get("rotation") or 0)
    if "points" in value:
        return functools.partial(outlines.polygon, [(float(x) * across, float(y) * down) for x, y in value["points"]])
    if "rle" in value:
        if value.get("format", "rle") != "rle":
            raise BadInput(f"a brush in the format {value['format']!r}, not 'rle'")
        return functools.partial(outlines.brush, bytes(value["rle"]))
    x, y = float(value["x"]) * across, float(value["y"]) * down
    if "radiusX" in value:
        radii = (float(value["radiusX"]) * across, float(value["radiusY"]) * down)
        return functools.partial(outlines.ellipse, (x, y), radii, turn=turn)
    opposite = (x + float(value["width"]) * across, y + float(value["height"]) * down)
    return functools.partial(outlines.rectangle, (x, y), opposite, turn=turn, about=(x, y))
