"""Recipe files: where they are, what their recipes are called, and their variants. Nothing here runs them."""

import ast
import re
from pathlib import Path

from jaxseg.errors import BadInput, suggest


def shipped() -> dict[str, Path]:
    """Return the recipes that come with jaxseg, name to file; of a file with variants ``FILE.py:VARIANT`` for each.

    >>> "segformer_b3_ade20k" in shipped()
    True
    """
    package = Path(__file__).parent
    for folder in (package / "experiments", package.parent / "experiments"):
        if (folder / "unet_scenes.py").is_file():
            files = [path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")]
            found = {name: path for file in files for name, path in names_in(file).items()}
            return dict(sorted(found.items()))
    return {}


def names_in(path: Path) -> dict[str, Path]:
    """Return the names of a file's recipes, read without running it: its stem, or ``NAME`` for each of ``VARIANTS``.

    >>> sorted(names_in(find_file("segformer_ade20k")))[:2]
    ['segformer_b0_ade20k', 'segformer_b1_ade20k']
    """
    known = variants(path)
    if not known:
        return {path.stem: path}
    pattern = next(ast.literal_eval(value) for name, value in _assigned(path) if name == "NAME")
    return {pattern.format(variant=variant): Path(f"{path}:{variant}") for variant in known}


def variants(path: Path) -> dict[str, str]:
    """Return the variants of a recipe file with the Python text of each one's value, read without running it.

    A file with variants has a table ``VARIANTS``, a pattern ``NAME = "segformer_{variant}_ade20k"`` of its recipes'
    names, and a function ``recipe(variant)`` with a default.

    >>> variants(find_file("segformer_ade20k"))["b3"]
    '(segformer_b3, 512)'
    """
    for name, value in _assigned(path):
        if name == "VARIANTS" and isinstance(value, ast.Dict):
            pairs = zip(value.keys, value.values, strict=True)
            return {ast.literal_eval(key): ast.unparse(inside) for key, inside in pairs if key is not None}
    return {}


def builds(path: Path, model: str) -> bool:
    """Return True if a recipe's code names the model's builder; of a variant, its value in ``VARIANTS`` must.

    >>> builds(find_file("segformer_ade20k:b3"), "segformer_b3")
    True
    """
    file, variant = split(path)
    if variant is not None:
        return re.search(rf"\b{model}\b", variants(file)[variant]) is not None
    return f"{model}(" in file.read_text(encoding="utf-8")


def _assigned(path: Path) -> list[tuple[str, ast.expr]]:
    """Return names and values of the assignments at the top of a file; none where it cannot be read as Python."""
    text = path.read_text(encoding="utf-8")
    try:
        body = ast.parse(text).body if "VARIANTS" in text else []
    except SyntaxError:
        return []
    targets = [(node.targets[0], node.value) for node in body if isinstance(node, ast.Assign)]
    targets += [(node.target, node.value) for node in body if isinstance(node, ast.AnnAssign) and node.value]
    return [(target.id, value) for target, value in targets if isinstance(target, ast.Name)]


def is_recipe(name: str) -> bool:
    """Return True if ``name`` is spelled as a recipe's file, or is a shipped recipe and nothing that exists here.

    >>> is_recipe("segformer_ade20k:b3"), is_recipe("runs/segformer_b3_ade20k")
    (True, False)
    """
    path, _ = split(name)
    return path.suffix in (".py", ".json") or (not path.exists() and name.partition(":")[0] in {*shipped(), *_stems()})


def find_file(name: str) -> Path:
    """Return the file of a recipe given by its path, or by its name if it comes with jaxseg.

    Behind the path or the name may stand a variant: ``segformer_ade20k:b3``, which is ``segformer_b3_ade20k``.

    >>> find_file("segformer_b3_ade20k").name
    'segformer_ade20k.py:b3'

    Raises:
      BadInput: there is neither.
    """
    path, variant = split(name)
    if path.suffix in (".py", ".json") or Path(name).exists():
        return Path(name)
    known, stems = shipped(), _stems()
    if name in known:
        return known[name]
    if str(path) in stems:
        file = stems[str(path)]
        return file if variant is None else with_variant(file, variant)
    offered = {*known, *(f"{stem}:{variant}" for stem, file in stems.items() for variant in variants(file))}
    raise BadInput(f"no recipe is called {name!r}{suggest(name, offered)}")


def _stems() -> dict[str, Path]:
    """Return the files of the shipped recipes by their stems."""
    files = [split(path)[0] for path in shipped().values()]
    return {file.stem: file for file in files}


def split(path: str | Path) -> tuple[Path, str | None]:
    """Return the file and the variant that ``FILE:VARIANT`` names; without ``:VARIANT`` None.

    >>> split("segformer_ade20k:b3")[1]
    'b3'
    """
    found = re.fullmatch(r"(.+[^:/\\]):([\w.-]+)", str(path))
    if found is None or Path(path).exists():
        return Path(path), None
    return Path(found[1]), found[2]


def with_variant(path: Path, variant: str) -> Path:
    """Return ``FILE:VARIANT``.

    >>> with_variant(find_file("segformer_ade20k"), "b3").name
    'segformer_ade20k.py:b3'

    Raises:
      BadInput: the file has no such variant; the nearest is offered.
    """
    known = variants(path)
    if not known:
        raise BadInput(f"{path.name} has no variants, so {variant!r} is none")
    if variant not in known:
        raise BadInput(f"{path.name} has no variant {variant!r}{suggest(variant, known)}")
    return Path(f"{path}:{variant}")
