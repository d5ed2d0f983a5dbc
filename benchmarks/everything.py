"""Tell what sharing one backbone costs each task: ``python benchmarks/everything.py RUNS --out FILE``.

RUNS holds a work directory for each variant of ``experiments/everything_scenes.py``, called as the variant:
``jaxseg train experiments/everything_scenes.py:depth_alone --workdir RUNS/depth_alone``. The first figure of each task
stands there of the network that has all tasks and of one with the same backbone that has this task alone. Of errors,
where smaller is better, the ratio is turned round, so that 100 % is as good and more is better.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import measure


def figures(workdir: Path) -> dict[str, float]:
    """Return the last figures of a run; none if it has none yet."""
    log = workdir / "metrics.jsonl"
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    return next((row for row in reversed(rows) if row.get("split") == "val"), {})


def ratio(together: float, alone: float, *, higher_is_better: bool) -> float:
    """Return how good one network with all tasks is, for 1 that has the task alone; NaN where one is missing."""
    good, base = (together, alone) if higher_is_better else (alone, together)
    return good / base if base else math.nan


def rows_of(runs: Path) -> list[dict[str, Any]]:
    """Return a row for each task."""
    from jaxseg.recipe import load_file
    from jaxseg.recipe_files import shipped
    from jaxseg.tasks.protocol import task_figures

    everything = figures(runs / "everything")
    stage = load_file(shipped()["everything_scenes"]).stages[0]
    known, rows = task_figures(stage.task), []
    for name in dict.fromkeys(figure.split("/")[0] for figure in known):
        workdir = runs / f"{name}_alone"
        if not workdir.exists():
            continue
        best = load_file(workdir / "recipe.json").stages[0].keep_best or ""
        figure, alone = known[best], figures(workdir).get(best, math.nan)
        together = everything.get(best, math.nan)
        rows.append(
            {
                "task": name,
                "figure": figure.title + (f", {figure.unit}" if figure.unit else ""),
                "alone": figure.format(alone),
                "everything": figure.format(together),
                "share": f"{100 * ratio(together, alone, higher_is_better=figure.higher_is_better):.1f} %",
            }
        )
    return rows


def main() -> None:
    """Print the table, and write it if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("runs", type=Path, help="folder of work directories called as the variants")
    parser.add_argument("--out", type=Path, help="write the table here too")
    options = parser.parse_args()
    rows = rows_of(options.runs)
    if not rows:
        parser.error(f"{options.runs} holds no work directory of a single task (semantic_alone, panoptic_alone, ...)")
    title = "All tasks by one backbone, and each alone on the same backbone with as many updates: held-out scenes"
    text = f"{title}\n\n{measure.as_table(rows)}"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
