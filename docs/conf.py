"""Sphinx's settings. Pages that follow from the code are written anew at every build, into docs/_generated."""

import functools
import os
import sys
from pathlib import Path

from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import catalogue
import reference

import jaxseg

project = "jaxseg"
author = "The jaxseg authors"
copyright = author
release = version = jaxseg.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
tables = (
    "baselines_boundary",
    "baselines_color",
    "baselines_depth",
    "dense_vs_patchwise",
    "detection_line",
    "everything",
    "folders",
    "networks",
    "ops",
    "parity",
    "parity_detectors",
    "recipes_from_data",
    "results",
)
included = [f"benchmarks/{page}.md" for page in tables]
exclude_patterns = ["_build", "_generated/*.md", *included]
html_theme = "furo"
html_title = f"jaxseg {release}"
html_static_path: list[str] = []

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"undoc-members": True}
toc_object_entries = False  # thousands of them would be copied for every page; the reference lists its modules
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Links within jaxseg must resolve. Annotations name classes of libraries whose own reference is not consulted here.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!jaxseg\.).*")]
nitpick_ignore = [
    ("py:class", "jaxseg.errors.Value"),
    ("py:class", "jaxseg.registry.Builder"),
    ("py:class", "jaxseg.viz.painter.P"),
    ("py:class", "jaxseg.tasks.table.Kind"),
]

log = logging.getLogger("jaxseg.docs")


def write_pages(app: Sphinx) -> None:
    """Write the pages that follow from the code, leaving alone those that have not changed."""
    found = catalogue.rows()
    pages = {
        "catalogue.md": catalogue.page(found),
        "papers.md": papers(found),
        "files.md": reference.table(),
    }
    pages |= {f"api/{page}.md": text for page, text in reference.api_pages().items()}
    for name, text in pages.items():
        path = HERE / "_generated" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def papers(found: list[catalogue.Row]) -> str:
    """The map's table of papers: page, networks, file, recipes and the tests that open the file."""
    lines = ["| paper | networks | file | recipes | tests |", "|---|---|---|---|---|"]
    for source in sorted({row.source for row in found}):
        rows = [row for row in found if row.source == source]
        pages = " ".join(f"[{page}](papers/{page}.md)" for page in sorted({row.page for row in rows if row.page}))
        names = ", ".join(f"`{row.name}`" for row in rows)
        recipes = ", ".join(sorted({f"`{r.address.partition(':')[0]}`" for row in rows for r in row.recipes}))
        tests = reference.places(reference.tests_of(HERE.parent / source))
        lines.append(f"| {pages} | {names} | `{source}` | {recipes} | {tests} |")
    return "\n".join(lines) + "\n"


class NamesOfOthers(SphinxPostTransform):
    """Leave annotations that name classes of libraries as text: Sphinx would look through all our objects for each."""

    default_priority = 5

    def run(self, **options: object) -> None:
        """Replace those references that nothing of jaxseg can answer, before Sphinx resolves the others."""
        known = ends_of(frozenset(self.env.domains["py"].objects))
        for node in list(self.document.findall(pending_xref)):
            target = node.get("reftarget", "")
            if node.get("refdomain") == "py" and not target.startswith("jaxseg.") and target.lstrip(".") not in known:
                node.replace_self(node[0].deepcopy() if len(node) == 1 else node.children)


@functools.cache
def ends_of(names: frozenset[str]) -> set[str]:
    """Every name by which a reference could find one of the dotted names: itself, and what follows each of its dots."""
    return {".".join(parts[i:]) for parts in (name.split(".") for name in names) for i in range(len(parts))}


def complain(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """A public name without a docstring is a warning, and so an error in ``make check``."""
    if not any(line.strip() for line in lines):
        log.warning("%s is public and has no docstring", name, type="jaxseg", subtype="undocumented")


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.add_post_transform(NamesOfOthers)
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", complain)
