"""The catalogue, from the registry, the networks themselves and the recipes: nothing in it is typed by hand.

``python docs/catalogue.py`` rewrites the table between the two markers of README.md; ``docs/conf.py`` writes the full
page at every build.
"""

import ast
import importlib.util
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- zoo:begin (make catalogue) -->", "<!-- zoo:end -->"
FIELDS = ("Paper", "Published", "Ours", "Hardware", "Command", "Departures")
"""What the docstring of every recipe says, each at the beginning of a line, followed by a colon."""


@dataclass(frozen=True)
class Recipe:
    """A file of ``experiments/``: its docstring's first line and fields."""

    name: str
    summary: str
    fields: dict[str, str]


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
    """Every recipe of ``experiments/``, read without running it."""
    found = []
    for path in sorted((ROOT / "experiments").glob("[!_]*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found.append(Recipe(path.stem, text.split("\n", 1)[0], parse_fields(text)))
    return found


def parse_fields(text: str) -> dict[str, str]:
    """``Published: 51.3`` and the lines that follow, up to the next field or empty line, each field as one line."""
    fields: dict[str, str] = {}
    label = None
    for line in text.splitlines():
        opening = re.match(rf"({'|'.join(FIELDS)})\b[^:]*:(.*)", line)
        if opening:
            label = opening[1]
            fields[label] = opening[2].strip()
        elif not line.strip():
            label = None
        elif label:
            fields[label] += " " + line.strip()
    return fields


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
    trained = {recipe.name: trains(ROOT / "experiments" / f"{recipe.name}.py", entries) for recipe in known}
    found = []
    for name, entry in entries.items():
        module = importlib.util.find_spec(entry.build.__module__)
        assert module is not None
        assert module.origin is not None
        mine = tuple(recipe for recipe in known if name in trained[recipe.name])
        source = Path(module.origin).resolve().relative_to(ROOT).as_posix()
        row = Row(
            name, entry.summary, entry.task, entry.paper, pages.get(entry.paper), source,
            count(entry.build()), entry.published, mine,
        )  # fmt: skip
        found.append(row)
    return found


def trains(recipe: Path, models: Collection[str]) -> set[str]:
    """The registered networks whose builders a recipe's code names, or else those of the recipes that it changes."""
    nodes = list(ast.walk(ast.parse(recipe.read_text(encoding="utf-8"))))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    names = (texts | {node.id for node in nodes if isinstance(node, ast.Name)}) & set(models)
    bases = [recipe.with_name(text) for text in texts if text.endswith(".py") and "\n" not in text]
    return names or {name for base in bases for name in trains(base, models)}


def count(model: object) -> int:
    """Trained parameters, from shapes alone: nothing is computed."""
    import jax
    import jax.numpy as jnp

    size = model.input_size(4, 4) if hasattr(model, "input_size") else (64, 64)  # type: ignore[attr-defined]
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)  # type: ignore[attr-defined]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


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
    """The README's table."""
    lines = ["| name | what it is | parameters | paper | recipes |", "|---|---|--:|---|---|"]
    for row in found:
        mine = ", ".join(f"[{r.name}](experiments/{r.name}.py)" for r in row.recipes)
        lines.append(
            f"| [`{row.name}`]({row.source}) | {row.summary} | {parameters(row)} | {paper_link(row.paper)} | {mine} |"
        )
    return "\n".join(lines)


def page(found: list[Row]) -> str:
    """The catalogue's body: networks, then recipes with their evidence."""
    lines = ["| name | task | parameters | paper | file |", "|---|---|--:|---|---|"]
    for row in found:
        paper = paper_link(row.paper) + (f", [notes](papers/{row.page}.md)" if row.page else "")
        lines.append(f"| `{row.name}` | {row.task} | {parameters(row)} | {paper} | `{row.source}` |")
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


def updated(readme: str, table: str) -> str:
    """The README with the table between its markers."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Rewrite the README's table."""
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text(encoding="utf-8"), zoo(rows())), encoding="utf-8")


if __name__ == "__main__":
    main()
