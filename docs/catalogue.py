"""Generate what the documentation lists of the zoo, from the registry, the networks and the recipes.

``python docs/catalogue.py`` (``make catalogue``) writes the README's table, the table of networks on every paper's
page, the page of a paper that has none, the list of papers, and the snapshot of a network that has none.
``docs/conf.py`` writes the full catalogue at every build.
"""

import ast
import importlib.util
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAPERS = ROOT / "docs" / "papers"
SNAPSHOTS = ROOT / "tests" / "contracts" / "snapshots"
FIELDS = ("Paper", "Published", "Ours", "Hardware", "Command", "Departures")
"""What the docstring of every recipe says, each at the beginning of a line, followed by a colon."""


@dataclass(frozen=True)
class Recipe:
    """A recipe of ``experiments/``: its docstring's first line and fields, and the networks that it trains."""

    name: str
    summary: str
    fields: dict[str, str]
    address: str
    models: frozenset[str]


@dataclass(frozen=True)
class Row:
    """One network of the zoo."""

    name: str
    summary: str
    task: str
    paper: str
    page: str | None
    source: str
    ours: int
    published: str
    recipes: tuple[Recipe, ...]


def recipes() -> list[Recipe]:
    """Every recipe of ``experiments/``, one for each variant of a file, read without running it."""
    from jaxseg.recipe_files import names_in, split

    found = []
    for path in sorted((ROOT / "experiments").glob("[!_]*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        for name, address in names_in(path).items():
            variant = split(address)[1]
            fields = parse_fields(text, variant or "")
            summary = text.split("\n", 1)[0].replace("VARIANT", variant or "")
            where = address.relative_to(ROOT).as_posix()
            found.append(Recipe(name, summary, fields, where, frozenset(trains(address))))
    return sorted(found, key=lambda recipe: recipe.name)


def parse_fields(text: str, variant: str = "") -> dict[str, str]:
    """``Published: 51.3`` and the lines that follow, up to the next field or empty line, each field as one line.

    ``Published (b3): 47.8`` is of that variant alone, and VARIANT stands for its name.
    """
    fields: dict[str, str] = {}
    label = None
    for line in text.splitlines():
        opening = re.match(rf"({'|'.join(FIELDS)})\b([^:(]*)(?:\((\w+)\))?[^:]*:(.*)", line)
        if opening:
            label = opening[1] if opening[3] in (None, variant) else None
            if label:
                fields[label] = opening[4].strip()
        elif not line.strip():
            label = None
        elif label:
            fields[label] += " " + line.strip()
    return {label: value.replace("VARIANT", variant) if variant else value for label, value in fields.items()}


def paper_pages(papers: Collection[str]) -> dict[str, str]:
    """Paper -> page of ``docs/papers``: each page names its papers as the registry does."""
    pages = {}
    for path in sorted((ROOT / "docs" / "papers").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for paper in papers:
            if paper in text:
                pages.setdefault(paper, path.stem)
    return pages


def rows() -> list[Row]:
    """Every registered network with its own parameter count, and the recipes that begin with its name."""
    import jaxseg.registry

    entries = jaxseg.registry.entries()
    known, pages = recipes(), paper_pages({entry.paper for entry in entries.values()})
    found = []
    for name, entry in entries.items():
        module = importlib.util.find_spec(entry.module)
        assert module is not None
        assert module.origin is not None
        mine = tuple(recipe for recipe in known if name in recipe.models)
        source = Path(module.origin).resolve().relative_to(ROOT).as_posix()
        row = Row(
            name, entry.summary, entry.task, entry.paper, pages.get(entry.paper), source,
            count(name), entry.published, mine,
        )  # fmt: skip
        found.append(row)
    return found


def trains(recipe: Path) -> set[str]:
    """The registered networks whose builders a recipe's code names, or else those of the recipes that it changes."""
    from jaxseg.recipe_files import split, variants

    file, variant = split(recipe)
    code = file.read_text(encoding="utf-8") if variant is None else variants(file)[variant]
    nodes = list(ast.walk(ast.parse(code)))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = (texts | {node.id for node in nodes if isinstance(node, ast.Name)}) & set(registered())
    bases = [file.with_name(text) for text in texts if text.endswith(".py") and "\n" not in text]
    return names or {name for base in bases for name in trains(base)}


def count(name: str) -> int:
    """Trained parameters, from the network's snapshot; a test holds that to the network."""
    sizes = [line.split() for line in snapshot(name).splitlines() if line.startswith("params/")]
    return sum(math.prod(int(n) for n in size.split("x")) if size else 1 for _, size in sizes)


def snapshot(name: str) -> str:
    """The paths and shapes of a network's variables: the file's text, or traced where there is none yet."""
    path = SNAPSHOTS / f"{name}.txt"
    return path.read_text(encoding="utf-8") if path.is_file() else traced(name)


def traced(name: str) -> str:
    """The paths and shapes of a network's variables, one a line; nothing is computed."""
    import jax
    import jax.numpy as jnp
    from flax import traverse_util

    from jaxseg.registry import create_model

    model = create_model(name)
    size = model.input_size(4, 4) if hasattr(model, "input_size") else (64, 64)
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
    flat = traverse_util.flatten_dict(jax.eval_shape(model.init, jax.random.key(0), image), sep="/")
    return "".join(f"{path} {'x'.join(str(n) for n in leaf.shape)}\n" for path, leaf in sorted(flat.items()))


def paper_link(paper: str) -> str:
    """Markdown link for arXiv numbers and DOIs, the venue itself otherwise."""
    if paper.startswith("arXiv:"):
        return f"[{paper}](https://arxiv.org/abs/{paper.removeprefix('arXiv:')})"
    if paper.startswith("doi:"):
        return f"[{paper}](https://doi.org/{paper.removeprefix('doi:')})"
    return paper


def parameters(row: Row) -> str:
    """Our count beside the paper's: one number where they agree."""
    if not row.published:
        return f"{row.ours:,}"
    return f"{row.ours:,} ✓" if agrees(row.ours, row.published) else f"{row.ours:,} (paper: {row.published})"


def agrees(count: int, published: str) -> bool:
    """Whether a count is the published one, or rounds to it where that is in millions: 37,877,652 to "37.9 M"."""
    if not published.endswith(" M"):
        return f"{count:,}" == published
    digits = len(published.removesuffix(" M").partition(".")[2])
    return f"{count / 1e6:.{digits}f} M" == published


def zoo(found: list[Row]) -> str:
    """The README's table: a line for each paper's page."""
    lines = ["| family | networks | parameters, millions | recipes |", "|---|---|--:|--:|"]
    for page, rows in by_page(found).items():
        names = ", ".join(f"[`{row.name}`]({row.source})" for row in rows)
        millions = sorted({f"{row.ours / 1e6:.3g}" for row in rows}, key=float)
        sizes = millions[0] if len(millions) == 1 else f"{millions[0]} to {millions[-1]}"
        trained = len({recipe.name for row in rows for recipe in row.recipes})
        lines.append(f"| [{title(page)}](docs/papers/{page}.md) | {names} | {sizes} | {trained or ''} |")
    return "\n".join(lines)


def by_page(found: list[Row]) -> dict[str, list[Row]]:
    """The rows of each paper's page, by the page's title."""
    pages = {row.page for row in found if row.page}
    return {page: [row for row in found if row.page == page] for page in sorted(pages, key=lambda p: title(p).lower())}


def title(page: str) -> str:
    """The heading of a paper's page."""
    return (PAPERS / f"{page}.md").read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")


def page(found: list[Row]) -> str:
    """The catalogue's body: networks, then recipes with their evidence."""
    lines = ["| name | what it is | task | parameters | paper | recipes | file |", "|---|---|---|--:|---|---|---|"]
    for row in found:
        paper = paper_link(row.paper) + (f", [notes](papers/{row.page}.md)" if row.page else "")
        trained = ", ".join(f"`{recipe.name}`" for recipe in row.recipes)
        lines.append(
            f"| `{row.name}` | {row.summary} | {row.task} | {parameters(row)} | {paper} | {trained} | `{row.source}` |"
        )
    lines += [
        "",
        "## Recipes",
        "",
        "| recipe | what it trains | published | ours | hardware |",
        "|---|---|---|---|---|",
    ]
    for recipe in recipes():
        figures = " | ".join(recipe.fields.get(field, "") for field in ("Published", "Ours", "Hardware"))
        lines.append(f"| `{recipe.name}` | {recipe.summary} | {figures} |")
    return "\n".join(lines) + "\n"


def networks(rows: list[Row]) -> str:
    """The table of networks on a paper's page."""
    lines = ["| network | what it is | parameters | paper | recipes |", "|---|---|--:|---|---|"]
    for row in rows:
        trained = ", ".join(f"`{recipe.name}`" for recipe in row.recipes)
        lines.append(f"| `{row.name}` | {row.summary} | {parameters(row)} | {paper_link(row.paper)} | {trained} |")
    return "\n".join(lines)


def paper_page(row: Row) -> str:
    """A page for a paper that has none: the docstring of the network's file, and the table of networks."""
    text = ast.get_docstring(ast.parse((ROOT / row.source).read_text(encoding="utf-8"))) or row.name
    heading, _, rest = text.partition("\n")
    parts = [
        f"# {heading.rstrip('.')}",
        rest.replace("``", "`").strip(),
        f"Described in {paper_link(row.paper)}.",
        "## Networks",
        f"{mark('networks')}\n\n{mark('networks', end=True)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def list_of_papers(found: list[Row]) -> str:
    """The table of the papers' pages."""
    rows = by_page(found)
    lines = ["| page | networks |", "|---|---|"]
    for name in sorted(
        (path.stem for path in PAPERS.glob("*.md") if path.stem != "index"), key=lambda p: title(p).lower()
    ):
        names = ", ".join(f"`{row.name}`" for row in rows.get(name, ())) or "backbone"
        lines.append(f"| [{title(name)}]({name}.md) | {names} |")
    return "\n".join(lines)


def mark(block: str, *, end: bool = False) -> str:
    """The comment before, or after, a generated part of a page."""
    return f"<!-- {block}:end -->" if end else f"<!-- {block}:begin (make catalogue) -->"


def updated(text: str, table: str, block: str = "zoo") -> str:
    """A page with the table between the markers of a block."""
    before, rest = text.split(mark(block))
    return f"{before}{mark(block)}\n{table}\n{mark(block, end=True)}{rest.split(mark(block, end=True))[1]}"


def generated(found: list[Row]) -> dict[Path, str]:
    """Every file with a generated part, as it should be."""
    texts = {ROOT / "README.md": ("zoo", zoo(found)), PAPERS / "index.md": ("papers", list_of_papers(found))}
    texts |= {PAPERS / f"{page}.md": ("networks", networks(rows)) for page, rows in by_page(found).items()}
    return {path: updated(path.read_text(encoding="utf-8"), table, block) for path, (block, table) in texts.items()}


def main() -> None:
    """Write what is missing, then what is generated."""
    for name in registered():
        path = SNAPSHOTS / f"{name}.txt"
        if not path.is_file():
            path.write_text(traced(name), encoding="utf-8")
    for row in rows():
        if row.paper not in paper_pages({row.paper}):
            (PAPERS / f"{Path(row.source).stem}.md").write_text(paper_page(row), encoding="utf-8")
    for path, text in generated(rows()).items():
        path.write_text(text, encoding="utf-8")


def registered() -> list[str]:
    """The names of the registered networks."""
    from jaxseg.registry import list_models

    return list_models()


if __name__ == "__main__":
    main()
