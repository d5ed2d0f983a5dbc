"""``jaxseg data list | prepare | show | check``."""

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxseg.errors import several
from jaxseg.files import default_data_dir

if TYPE_CHECKING:
    from jaxseg.data.check import Checked, Example

_DATA_DIR = click.option("--data-dir", type=click.Path(path_type=Path), help="Where prepared data sets are.")
_OPTIONS = click.option(
    "--option", "given", multiple=True, metavar="NAME=VALUE", help="An option of the data set, as `show` lists them."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("data", short_help="The data sets.")
def command() -> None:
    """List the data sets, prepare one, show what is known of one, or check what it holds."""


@command.command("list")
@_JSON
@_DATA_DIR
def list_(as_json: bool, data_dir: Path | None) -> None:
    """List every data set, and whether it is prepared here."""
    from jaxseg.cli import report
    from jaxseg.data import sets

    found = []
    for name in sets.list_sets():
        facts = _facts(name)
        found.append({**facts, "prepared": sets.is_prepared(name, data_dir=data_dir)})
    if as_json:
        return report.say_json(found)
    rows = [
        [f["name"], *_counts(f), _words(f["splits"]), "yes" if f["prepared"] else "no", f["summary"]] for f in found
    ]
    report.table(["name", "classes", "things", "splits", "prepared", "what"], rows)


@command.command("prepare")
@click.argument("name")
@click.option("--source", type=click.Path(path_type=Path), help="Folder with the published files, as `show` says.")
@click.option("--again", is_flag=True, help="Prepare it anew; the old files serve until the new ones are complete.")
@_OPTIONS
@_DATA_DIR
def prepare(name: str, source: Path | None, again: bool, given: tuple[str, ...], data_dir: Path | None) -> None:
    """Convert data set NAME to the format that training reads; folder:PATH is a folder of images and masks."""
    from jaxseg.cli import report
    from jaxseg.data import sets

    options = options_of(given)
    where = sets.prepare(name, source=source, data_dir=data_dir, options=options, again=again)
    origin = sets.prepared_from(name, data_dir=data_dir, options=options)
    report.say(f"{name} is ready in {where}" + (f", prepared on {origin.prepared} from {origin}" if origin else ""))
    report.say(f"splits: {_words(sets.prepared_splits(name, data_dir=data_dir, options=options))}")
    if origin is None and not sets.find(name).GENERATED:
        report.say("note: from what it was prepared was not written down; --again prepares it anew")
    for note in origin.notes if origin else ():
        report.say(f"note: {note}")


@command.command("show")
@click.argument("name")
@_JSON
@_OPTIONS
@_DATA_DIR
def show(name: str, as_json: bool, given: tuple[str, ...], data_dir: Path | None) -> None:
    """Show the facts of data set NAME: classes, things, palette, splits, licence, where to get it."""
    from jaxseg.cli import report
    from jaxseg.data import sets

    options = options_of(given)
    origin = sets.prepared_from(name, data_dir=data_dir, options=options)
    facts = {
        **_facts(name, options, data_dir),
        "prepared": sets.is_prepared(name, data_dir=data_dir, options=options),
        "prepared_from": dataclasses.asdict(origin) if origin else None,
    }
    if as_json:
        return report.say_json(facts)
    for key in ("name", "summary", "licence", "url", "source", "citation"):
        if facts[key]:
            report.say(f"{key}: {' '.join(str(facts[key]).split())}")
    for key in ("keys", "bands", "joints", "options"):
        if facts[key]:
            report.say(f"{key}: {_words(facts[key])}")
    if facts["splits"]:
        report.say(f"splits: {_words(facts['splits'])}")
    there = sets.prepared_splits(name, data_dir=data_dir, options=options)
    report.say(f"prepared: {_words(there) if there else 'no'} (in {data_dir or default_data_dir()})")
    if origin:
        report.say(f"prepared from: {origin}, on {origin.prepared}")
    if facts["classes"]:
        weights = facts["weights"]
        report.table(*_table("class", facts["classes"], facts["palette"], weights), right=len(weights))
    if facts["things"]:
        report.table(*_table("thing", facts["things"], facts["thing_palette"], {}))


@command.command("check")
@click.argument("name", metavar="PATH")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for index.html, contact_sheet.png and check.json.")
@_JSON
@_OPTIONS
@_DATA_DIR
def check(name: str, out: Path | None, as_json: bool, given: tuple[str, ...], data_dir: Path | None) -> None:
    """Check a folder of images, or a prepared data set, before anything is trained.

    Every image is read with its labels as training reads it. All problems are listed; the exit status is 2 if training
    would fail.
    """
    from jaxseg.cli import data_page, report
    from jaxseg.data.check import check as examine
    from jaxseg.errors import BadInput

    sample = data_page.Sample()
    checked = examine(
        name, options=options_of(given), data_dir=data_dir, look=sample.look if out else None, progress=_progress
    )
    as_table = dataclasses.asdict(checked) | {"usable": checked.usable}
    if out is not None:
        files = data_page.write(out, checked, sample)
        (out / "check.json").write_text(report.as_json(as_table) + "\n", encoding="utf-8")
    if as_json:
        report.say_json(as_table)
    else:
        _say_checked(checked)
        if out is not None:
            report.say(f"written: {', '.join(str(path) for path in [*files, out / 'check.json'])}")
    if not checked.usable:
        first, *others = checked.problems
        more = f" (and {len(others)} more)" if others else ""
        raise BadInput(f"training on {checked.name} would fail: {first}{more}")


def _say_checked(checked: "Checked") -> None:
    """Print what was found."""
    from jaxseg.cli import data_page, report

    report.say(f"{checked.name}: {checked.kind or 'unknown layout'}")
    for title, found in (("splits", checked.splits), ("height x width", checked.sizes), ("stored as", checked.formats)):
        if found:
            report.say(f"{title}: {_counted(found)}")
    if checked.low is not None and checked.high is not None:
        report.say(f"values: {checked.low:g} to {checked.high:g}")
    if checked.values:
        report.say(f"masks hold: {', '.join(list(checked.values)[:40])}")
    if checked.classes:
        rows = [[row.name, str(row.pixels), f"{100 * row.share:.3f}", str(row.images)] for row in checked.classes]
        report.table(["class", "pixels", "share %", "images"], rows, right=3)
        report.say(f"void: {checked.void} pixels")
    if checked.things:
        report.table(
            ["thing", "objects", "images"], [[r.name, str(r.objects), str(r.images)] for r in checked.things], right=2
        )
    if checked.depth is not None:
        report.say(f"depth: {data_page.depth_words(checked.depth)}")
    if checked.unknown:
        report.say(f"without any known depth: {', '.join(checked.unknown)}")
    for word, lines in (("note", checked.notes), ("warning", checked.warnings), ("problem", checked.problems)):
        for line in lines:
            report.say(f"{word}: {line}")
    report.say("training would run" if checked.usable else f"training would fail: {len(checked.problems)} problems")


def _counted(found: Mapping[str, int], most: int = 6) -> str:
    """Format counts, the commonest first: "12 x 8 (40), 6 x 6 (2)"."""
    return several([f"{name} ({count})" for name, count in found.items()], most)


def _progress(examples: Sequence["Example"]) -> Iterable["Example"]:
    """Go through the examples, with a bar in a terminal."""
    if not sys.stderr.isatty():
        return examples
    from rich.console import Console
    from rich.progress import track

    return track(examples, description="checking", console=Console(stderr=True))


def _table(
    title: str, names: Sequence[str], palette: Sequence[Sequence[int]], weights: Mapping[str, Sequence[float]]
) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows: number, name, colour, weights."""
    rows = []
    for index, name in enumerate(names):
        each = [f"{values[index]:.4f}" for values in weights.values()]
        colour = "#{:02x}{:02x}{:02x}".format(*palette[index]) if palette else "-"
        rows.append([str(index), name, colour, *each])
    return [title, "name", "colour", *(f"weight: {name}" for name in weights)], rows


def _counts(facts: Mapping[str, Any]) -> list[str]:
    """Return the number of classes and of things, "-" for none."""
    return [str(len(facts[key])) if facts[key] else "-" for key in ("classes", "things")]


def options_of(given: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    """Return NAME=VALUE as a source's options: Python literals, or else the words themselves."""
    from jaxseg.errors import BadInput
    from jaxseg.literals import parse_literal

    found = []
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise BadInput(f"--option takes NAME=VALUE, not {item!r}")
        try:
            value = parse_literal(text)
        except (ValueError, SyntaxError):
            value = text
        found.append((name, value))
    return tuple(found)


def _facts(name: str, options: tuple[tuple[str, Any], ...] = (), data_dir: Path | None = None) -> dict[str, Any]:
    """Return the facts table, ready for JSON."""
    from jaxseg.data import sets

    facts = sets.facts(name, data_dir=data_dir, options=options)
    return {f.name: getattr(facts, f.name) for f in dataclasses.fields(facts)}


def _words(items: Any) -> str:
    """Format a mapping as "train 367, val", a tuple as "a, b"."""
    pairs = items.items() if hasattr(items, "items") else [(item, None) for item in items]
    return ", ".join(str(name) if value is None else f"{name} {value}" for name, value in pairs)
