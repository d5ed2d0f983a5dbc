"""Results of recipes, read from their work directories: nothing is typed by hand.

``python docs/results.py WORKDIR... --data-dir DIR`` reads each directory's recipe, metrics and machines, keeps what it
found in ``docs/benchmarks/results.json`` (the directory's name is its key), and writes ``docs/benchmarks/results.md``
from that file and from the line "Published:" of each recipe. Without directories it only writes the table anew.
"""

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import catalogue

KEPT = catalogue.ROOT / "docs" / "benchmarks" / "results.json"
TABLE = KEPT.with_suffix(".md")
HABITS = (
    "log_every",
    "eval_every",
    "save_every",
    "eval_batch_size",
    "keep_best",
    "keep_last",
    "pictures",
    "name",
    "workers",
    "prefetch",
)
"""Fields that change what a run leaves behind or how fast it goes, and not what it learns."""

HEADLINES = ("box_ap", "box_ap50", "mask_ap", "mask_ap50", "keypoint_ap", "keypoint_ap50", "pq", "sq", "rq", "voc_ap")
"""What the table has of objects; their other figures are kept beside it."""

PAIRS = "<!-- pairs -->"
"""Stands before the second table, for pages that include that alone."""

PUBLISHED = re.compile(r"mIoU ([\d.]+)(?:, class accuracy ([\d.]+))?(?:, pixel accuracy ([\d.]+))?")


def measured(workdir: Path, data_dir: Path | None = None) -> dict[str, Any]:
    """What a work directory says of its run, up to its last evaluation.

    Args:
      workdir: of a recipe of ``experiments/``, at least once evaluated.
      data_dir: where the prepared data are: the sizes of images and splits are counted there.

    Raises:
      BadInput: there is no evaluation, or no such recipe.
    """
    from jaxseg.errors import BadInput
    from jaxseg.recipe import load_file
    from jaxseg.tasks.protocol import task_figures
    from jaxseg.train.log import read_rows

    recipe = load_file(workdir / "recipe.json")
    rows = read_rows(workdir / "metrics.jsonl")
    evaluations = [row for row in rows if row["kind"] == "eval"]
    if not evaluations:
        raise BadInput(f"{workdir}: nothing was evaluated yet")
    last = evaluations[-1]
    labels = [f"{index}-{stage.name}" for index, stage in enumerate(recipe.stages)]
    at = labels.index(last["stage"])
    made = [stage.steps for stage in recipe.stages[:at]] + [last["step"]]
    stage = recipe.stages[at]
    described = task_figures(stage.task)
    passed = examples(stage.data.train, data_dir)
    machines = read_rows(workdir / "machines.jsonl")
    return {
        "recipe": recipe.name,
        "changes": changes(recipe),
        **seen(stage.data, data_dir),
        "split": last["split"],
        "updates": sum(made),
        "planned": sum(stage.steps for stage in recipe.stages),
        "batch": stage.batch_size,
        "epochs": round(sum(n * s.batch_size for n, s in zip(made, recipe.stages, strict=False)) / passed, 2),
        "seconds": round(seconds(rows[: rows.index(last)])),
        "hardware": sorted({row["hardware"] for row in machines}),
        "began": min((row["began"] for row in machines), default=None),
        "figures": {name: round(last[name], 5) for name in described if name in last},
        "described": [asdict(figure) for name, figure in described.items() if name in last],
    }


def examples(source: Any, data_dir: Path | None) -> int:
    """How many images a split has; those of data sets that do not say it beforehand are counted as prepared."""
    from jaxseg.data import sets

    known = sets.facts(source.dataset, data_dir=data_dir, options=source.options).splits[source.split]
    if known is not None:
        return known
    return sets.prepared_splits(source.dataset, data_dir=data_dir, options=source.options)[source.split]


def changes(recipe: Any) -> dict[str, list[str]]:
    """Path -> what the recipe's file has there and what was run instead, both as Python."""
    from jaxseg.recipe import dump, find_file, load, load_file
    from jaxseg.train.changes import differences

    origin = dump(load_file(find_file(recipe.name)))
    found = {}
    for path, there, here in differences(json.loads(json.dumps(origin)), json.loads(json.dumps(dump(recipe)))):
        if path.rsplit(".", 1)[-1] not in HABITS:
            found[path.removesuffix(".dtype") if path.endswith(".dtype.dtype") else path] = [
                spelt(load(there)),
                spelt(load(here)),
            ]
    return found


def spelt(value: Any) -> str:
    """The value as Python, without fields that have their defaults; weights of a file by the file's name."""
    if hasattr(value, "rules"):
        return str(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(spelt, value))}{',' * (len(value) == 1)})"
    if is_dataclass(value):
        given = [(f.name, getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != f.default]
        return f"{type(value).__name__}({', '.join(f'{name}={spelt(inside)}' for name, inside in given)})"
    return repr(value)


def seen(data: Any, data_dir: Path | None) -> dict[str, Any]:
    """Data set, images of the validation split, the size of images in training and in evaluation, [] if several."""
    batches = data.eval_batches(batch_size=1, data_dir=data_dir)
    train = data.train_batches(batch_size=1, seed=0, data_dir=data_dir)
    trained = list(next(train)["image"].shape[1:3])
    train.close()
    sizes = {batch["image"].shape[1:3] for batch in batches}
    evaluated = list(sizes.pop()) if len(sizes) == 1 else []
    return {"data_set": data.facts().name, "images": len(batches), "trained_at": trained, "evaluated_at": evaluated}


def seconds(rows: Iterable[Mapping[str, Any]]) -> float:
    """Time spent on updates, without compiling, evaluating and saving."""
    total, before = 0.0, (None, 0)
    for row in rows:
        if row["kind"] == "train":
            steps = row["step"] - (before[1] if before[0] == row["stage"] else 0)
            total += steps * row.get("seconds", 0.0)
            before = (row["stage"], row["step"])
    return total


def spent(seconds: float) -> str:
    """Seconds below two minutes, else minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def render(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """The page's tables from what was kept: runs alone, and pairs that differ in their beginning only."""
    semantic = {name: run for name, run in runs.items() if "miou" in run["figures"]}
    pairs = list(paired(semantic))
    alone = {name: run for name, run in semantic.items() if not any(name in pair for pair in pairs)}
    others = {name: run for name, run in runs.items() if name not in semantic}
    lines = [*table_of_runs(alone), ""] if alone else []
    if others:
        lines += [*table_of_others(others), ""]
    if pairs:
        lines += ["What pretrained weights gain: the same updates from two beginnings.", "", PAIRS, ""]
        lines += [*table_of_pairs([(runs[first], runs[second]) for first, second in pairs]), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def table_of_runs(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of markdown, a run each, beside the figures that its recipe says were published."""
    notes: list[str] = []
    published = {recipe.name: recipe.fields["Published"] for recipe in catalogue.recipes()}
    head = ["recipe", "published: mIoU, class, pixel", "ours: mIoU, class, pixel", "mIoU, void counted", "boundary F1"]
    lines = [row([*head, *HOW]), "|---|--:|--:|--:|--:|---|---|---|---|"]
    for _, run in sorted(runs.items(), key=lambda item: (item[1]["recipe"], item[0])):
        cells = [f"`{run['recipe']}`", theirs(published[run["recipe"]]), three(run)]
        cells += [percent(run, "miou_void_counted"), percent(run, "boundary_f1")]
        lines.append(row([*cells, *how(run), footnote(run["changes"], notes)]))
    return [*lines, "", *notes]


def table_of_others(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines of markdown, a run each, of tasks that are not measured by mIoU: figures by the titles of their metrics."""
    from jaxseg.types import Figure

    notes: list[str] = []
    published = {recipe.name: recipe.fields["Published"] for recipe in catalogue.recipes()}
    lines = [row(["recipe", "published", "ours", *HOW]), "|---|---|---|---|---|---|---|"]
    for _, run in sorted(runs.items(), key=lambda item: (item[1]["recipe"], item[0])):
        known = [Figure(**described) for described in run["described"]]
        known = [figure for figure in known if figure.name in HEADLINES] or known
        ours = [f"{f.title} {f.format(run['figures'][f.name])} {f.unit}".rstrip() for f in known]
        cells = [f"`{run['recipe']}`", published[run["recipe"]], ", ".join(ours)]
        lines.append(row([*cells, *how(run), footnote(run["changes"], notes)]))
    return [*lines, "", *notes]


def table_of_pairs(pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[str]:
    """Lines of markdown, a pair of runs each: pretrained, random, and the difference of their mIoU."""
    notes: list[str] = []
    head = ["recipe", "pretrained: mIoU, class, pixel", "random: mIoU, class, pixel", "gain in mIoU"]
    lines = [row([*head, *HOW]), "|---|--:|--:|--:|---|---|---|---|"]
    for one, other in pairs:
        gain = 100 * (one["figures"]["miou"] - other["figures"]["miou"])
        rest = {path: change for path, change in one["changes"].items() if not beginning(path)}
        cells = [f"`{one['recipe']}`", three(one), three(other), f"{gain:+.1f}"]
        lines.append(row([*cells, *how(one, other), footnote(rest, notes)]))
    return [*lines, "", *notes]


HOW = ["updates", "images", "hardware, time", "changed"]


def how(run: Mapping[str, Any], *others: Mapping[str, Any]) -> list[str]:
    """Updates, images and hardware in words; the time of each run."""
    share = "" if run["updates"] == run["planned"] else f" (of {run['planned']:,} planned)"
    updates = f"{run['updates']:,} of {run['batch']}{share}, {run['epochs']:.1f} epochs"
    sizes = ["x".join(map(str, run[key])) or "their own sizes" for key in ("trained_at", "evaluated_at")]
    trained = "" if sizes[0] == sizes[1] else f", trained at {sizes[0]}"
    images = f"{run['images']} of {run['data_set']} {run['split']} at {sizes[1]}{trained}"
    minutes = " and ".join(spent(each["seconds"]) for each in (run, *others))
    return [updates, images, f"{', '.join(run['hardware'])}, {minutes}"]


def paired(runs: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Names of runs of one recipe that differ in nothing but that the second begins at random weights."""
    for second, run in runs.items():
        inits = [path for path in run["changes"] if beginning(path)]
        rest = {path: change for path, change in run["changes"].items() if path not in inits}
        for first, other in runs.items():
            same = other["recipe"] == run["recipe"] and other["changes"] == rest
            if inits and all(run["changes"][path][1] == "None" for path in inits) and same:
                yield first, second


def beginning(path: str) -> bool:
    """Whether a recipe's path says where the weights begin."""
    return path.endswith(".init")


def theirs(published: str) -> str:
    """The figures of a recipe's line "Published:", and on what they were measured."""
    found = PUBLISHED.search(published)
    if not found:
        return ""
    split = re.search(r" on the ([\w ]+ images)", published)
    return ", ".join(filter(None, found.groups())) + (f" ({split[1]})" if split else "")


def three(run: Mapping[str, Any]) -> str:
    """mIoU, class accuracy and pixel accuracy in percent."""
    return ", ".join(percent(run, name) for name in ("miou", "mean_accuracy", "pixel_accuracy"))


def percent(run: Mapping[str, Any], name: str) -> str:
    """A figure of a run in percent, nothing where it was not measured."""
    return f"{100 * run['figures'][name]:.1f}" if name in run["figures"] else ""


def footnote(changed: Mapping[str, list[str]], notes: list[str]) -> str:
    """The letter of the note that says what was run instead of the recipe's file; the note is added if it is new."""
    if not changed:
        return "nothing"
    text = "; ".join(f"`{path}` {here} for {there}" for path, (there, here) in sorted(changed.items()))
    known = [note.split(": ", 1)[1] for note in notes if note]
    if text not in known:
        known.append(text)
        notes += [f"{chr(ord('a') + len(known) - 1)}: {text}", ""]
    return chr(ord("a") + known.index(text))


def row(cells: Iterable[str]) -> str:
    """A line of a markdown table."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Take in the directories that are named, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("workdirs", nargs="*", type=Path, metavar="WORKDIR")
    parser.add_argument("--data-dir", type=Path, help="where prepared data sets are")
    options = parser.parse_args()
    runs = json.loads(KEPT.read_text(encoding="utf-8"))
    for workdir in options.workdirs:
        runs[workdir.resolve().name] = measured(workdir, options.data_dir)
    KEPT.write_text(json.dumps(dict(sorted(runs.items())), indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(render(runs), encoding="utf-8")


if __name__ == "__main__":
    main()
