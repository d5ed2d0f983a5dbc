"""Find the images that a user names: files, folders and patterns."""

import glob
import json
from collections.abc import Sequence
from pathlib import Path

from jaxseg.data.listing import SUFFIXES
from jaxseg.errors import BadInput

PICTURES = "pictures"
"""Key of a report of ``jaxseg predict`` that lists the pictures written with it."""

LARGEST_REPORT = 4 * 2**20
"""Bytes; larger JSON files beside images are data of others and are not opened."""


def find_images(names: Sequence[str], left_out: list[Path] | None = None) -> dict[Path, str]:
    """Return the image files that names stand for, each with the name of its results below ``--out``.

    A name is a file, a folder, of which its images count, or a pattern such as ``a/**/*.png``, whose subfolders are
    kept. Of folders and patterns, hidden files and what ``jaxseg predict`` wrote there do not count.

    Args:
      names: as on the command line.
      left_out: is given the pictures that an earlier run wrote.

    Raises:
      BadInput: a name stands for nothing, or two images would leave results of the same name.

    Example:
      >>> Path("photo.png").write_bytes(b""), find_images(["*.png"])
      (0, {PosixPath('photo.png'): 'photo'})
    """
    left_out = [] if left_out is None else left_out
    found: dict[Path, str] = {}
    owners: dict[str, Path] = {}
    for name in names:
        for path, result in _expand(name, left_out).items():
            other = owners.setdefault(found.setdefault(path, result), path)
            if other != path:
                raise BadInput(f"{other} and {path} would both be written as {result}_label.png; use two folders")
    return found


def _expand(name: str, left_out: list[Path]) -> dict[Path, str]:
    path = Path(name)
    if path.is_dir():
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        images = _without_results(inside, left_out)
        if not images:
            raise BadInput(f"folder {name!r} holds no image ({', '.join(SUFFIXES)})")
        return {image: image.stem for image in images}
    if path.exists():
        return {path: path.stem}
    if not glob.has_magic(name):
        raise BadInput(f"there is no image {name!r}")
    matches = sorted(Path(match) for match in glob.glob(name, recursive=True))
    matches = _without_results([match for match in matches if match.is_file()], left_out)
    if not matches:
        raise BadInput(f"no file matches {name!r}")
    fixed = 0
    while not glob.has_magic(path.parts[fixed]):
        fixed += 1
    root = Path(*path.parts[:fixed])
    return {match: match.relative_to(root).with_suffix("").as_posix() for match in matches}


def _without_results(paths: list[Path], left_out: list[Path]) -> list[Path]:
    """The files that are neither hidden nor pictures that a report beside them lists."""
    results = {result for folder in dict.fromkeys(path.parent for path in paths) for result in _results_in(folder)}
    left_out += [path for path in paths if path in results]
    return [path for path in paths if not path.name.startswith(".") and path not in results]


def _results_in(folder: Path) -> list[Path]:
    found: list[Path] = []
    for path in folder.glob("*.json"):
        try:
            report = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < LARGEST_REPORT else None
        except (OSError, ValueError):
            continue
        listed = report.get(PICTURES) if isinstance(report, dict) and "model" in report else None
        found += [folder / str(name) for name in listed] if isinstance(listed, list) else []
    return found
