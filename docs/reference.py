"""Generate pages from the tree: the API reference, one page per package, and the list of every file with its test."""

import ast
import functools
import itertools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "jaxseg"

PACKAGES = {
    "vocabulary": (
        "Vocabulary, registry, recipes",
        ["types", "errors", "registry", "recipe", "recipe_files", "override", "constructors", "literals", "files"],
    ),
    "ops": ("Operations", ["ops"]),
    "layers": ("Layers", ["layers"]),
    "backbones": ("Backbones", ["backbones"]),
    "models": ("Networks", ["models"]),
    "losses": ("Losses", ["losses"]),
    "metrics": ("Metrics", ["metrics"]),
    "tasks": ("Tasks", ["tasks"]),
    "data": ("Data", ["data"]),
    "configure": ("Recipes from data", ["configure"]),
    "train": ("Training", ["train"]),
    "inference": ("Inference", ["inference", "forward"]),
    "analysis": ("Analysis", ["analysis"]),
    "weights": ("Weights", ["weights", "conversion"]),
    "export": ("Export", ["export"]),
    "viz": ("Pictures", ["viz"]),
    "report": ("Reports", ["report"]),
    "cli": ("Command line", ["cli"]),
}
"""Page -> its title and the modules or packages under ``jaxseg`` that it documents."""


def module_name(path: Path) -> str:
    """``jaxseg/ops/conv.py`` -> ``jaxseg.ops.conv``; a package's ``__init__`` is the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> list[Path]:
    """Every public module of the package, packages before what they hold."""
    found = [p for p in PACKAGE.rglob("*.py") if p.name == "__init__.py" or not p.name.startswith("_")]
    return sorted(found, key=lambda path: module_name(path).split("."))


def summary(path: Path) -> str:
    """First sentence of the module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n", 1)[0].split())


def tests_of(path: Path) -> list[Path]:
    """The tests that import the module, or something from it."""
    return [test for test, imported in imports_of_tests().items() if module_name(path) in imported]


@functools.cache
def imports_of_tests() -> dict[Path, set[str]]:
    """Every dotted name that each test imports: ``from a.b import c`` gives ``a.b`` and ``a.b.c``."""
    found: dict[Path, set[str]] = {}
    for test in sorted((ROOT / "tests").rglob("test_*.py")):
        names = found.setdefault(test, set())
        for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def places(paths: list[Path]) -> str:
    """Paths from the root, for a table's cell."""
    return ", ".join(f"`{path.relative_to(ROOT).as_posix()}`" for path in paths)


def room_of(path: Path) -> str | None:
    """The page that documents the module, None for the face of the package itself."""
    inner = module_name(path).split(".")[1:]
    return next((page for page, (_, tops) in PACKAGES.items() if inner and inner[0] in tops), None)


def api_pages() -> dict[str, str]:
    """File name -> MyST source of the page of each package.

    Raises:
      ValueError: a module belongs to no page, so that nothing public can stay out of the reference.
    """
    pages: dict[str, list[str]] = {}
    for path in files():
        if path == PACKAGE / "__init__.py":
            continue
        page = room_of(path)
        if page is None:
            raise ValueError(
                f"no page of the reference holds {module_name(path)}: give its package one in docs/reference.py"
            )
        pages.setdefault(page, [f"# {PACKAGES[page][0]}\n"]).append(section(path))
    return {page: "\n".join(parts) for page, parts in pages.items()}


def section(path: Path) -> str:
    """One module's part of a page: its docstring, then what it defines, in the order of the file."""
    name = module_name(path)
    lines = [f"## {name}", "", "```{eval-rst}", f".. automodule:: {name}", "   :no-members:", ""]
    for kind, member, methods in members(path):
        lines += [f".. auto{kind}:: {name}.{member}"]
        lines += [f"   :members: {', '.join(methods)}"] if methods else ["   :no-members:"] if kind == "class" else []
        lines += [""]
    return "\n".join([*lines, "```", ""])


def members(path: Path) -> list[tuple[str, str, list[str]]]:
    """Public functions and classes (with their public methods), and those constants that have a docstring."""
    found: list[tuple[str, str, list[str]]] = []
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node, after in itertools.zip_longest(body, body[1:]):
        match node:
            case ast.FunctionDef(name=name):
                found.append(("function", name, []))
            case ast.ClassDef(name=name, body=inner):
                methods = [n.name for n in inner if isinstance(n, ast.FunctionDef)]
                found.append(("class", name, [method for method in methods if not method.startswith("_")]))
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    found.append(("data", name, []))
    return [entry for entry in found if not entry[1].startswith("_")]


def table() -> str:
    """Every file with what it holds and the tests that open it."""
    lines = ["| file | what it holds | tests |", "|---|---|---|"]
    for path in files():
        text = summary(path).replace("|", "\\|").replace("``", "`")
        lines.append(f"| `{path.relative_to(ROOT).as_posix()}` | {text} | {places(tests_of(path))} |")
    return "\n".join(lines) + "\n"
