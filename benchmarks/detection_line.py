"""Tell the line from R-CNN to one stage in figures, and write them for the documentation.

``python benchmarks/detection_line.py`` times one image on one backbone, VGG16: R-CNN runs it on every proposal, Fast
R-CNN once, Faster R-CNN once, proposals included. Weights are random. Operations are counted in the traced programs,
multiply-adds as two; what makes the proposals of the first two is not among them. ``--width``, ``--size`` and
``--proposals`` are the paper's with 64, 600 1000 and 2000, for which ``--count`` leaves out the timing.

``--minutes M`` trains each system's recipe on the embedded scenes for so long instead, on this machine, and tells its
AP and how many images it finds the objects of in a second. Times are those of one processor core, which other work on
the machine hardly changes; the minutes are of updates alone: compilation, evaluation and the search for proposals are
not in them. Each recipe has its own network, optimiser and schedule, of as many updates as a few at first have shown to
take so long. ``--system NAME`` trains one alone; what the file has for the same minutes already is not trained again.

Each of the three adds its part to ``--keep FILE.json`` and writes the page ``FILE.md`` beside it; ``--page`` only does
the latter.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np

from jaxseg.cli.runtime import keep_freed_memory

KEEP = Path(__file__).parent.parent / "docs" / "benchmarks" / "detection_line.json"

LINE = {
    "rcnn_scenes": ("R-CNN, softmax", "nothing: each proposal is an image of its own"),
    "fast_rcnn_scenes": ("Fast R-CNN", "the convolutions; proposals come from outside"),
    "faster_rcnn_end_to_end_scenes": ("Faster R-CNN", "the convolutions, with the proposals"),
    "yolo_v1_scenes": ("YOLO", "everything: one stage, one map, dense layers over all of it"),
    "yolo_v3_scenes": ("YOLO v3, tiny", "everything: one stage, two maps"),
    "ssd_scenes": ("SSD", "everything: one stage, a box for every cell of several maps"),
    "mnc_scenes": ("MNC", "the convolutions, with proposals and masks that the classes look through"),
    "fcis_scenes": ("FCIS", "all but the average over a region: one set of score maps"),
    "mask_rcnn_scenes": ("Mask R-CNN", "the convolutions, on a pyramid, with the proposals"),
}
"""Recipes by name: the system, and what it shares between regions."""

COUNTED = "GFLOP an image"
SPENT = "s an image"
FIRST = 20
"""Updates by which the time of one is measured."""


def networks(width: int, proposals: int) -> dict[str, tuple[Any, bool, str]]:
    """Each system on VGG16: the network, whether it is given proposals, and a remark."""
    from jaxseg.layers.roi_heads import BoxHead
    from jaxseg.models.detection.fast_rcnn import fast_rcnn_vgg16, vgg16_map
    from jaxseg.models.detection.faster_rcnn_vgg import faster_rcnn_vgg16
    from jaxseg.models.detection.rcnn import rcnn_alexnet

    dense = 64 * width
    crops = rcnn_alexnet().clone(
        backbone=vgg16_map(width=width).clone(output_stride=32),
        box_head=BoxHead((), (dense, dense), dropout=0.5),
        crop=224,
    )
    made: dict[str, Any] = {"width": width, "dense": dense}
    return {
        "R-CNN": (crops, True, f"VGG16 on {proposals} crops of 224x224"),
        "Fast R-CNN": (fast_rcnn_vgg16(**made), True, f"VGG16 once, fc6 and fc7 on {proposals} regions"),
        "Faster R-CNN": (faster_rcnn_vgg16(**made), False, "VGG16 once, proposals too, fc6 and fc7 on 300 regions"),
    }


def boxes_in(size: tuple[int, int], count: int) -> np.ndarray:
    """Proposals anywhere in the image, f32[1 count 4]."""
    rng = np.random.default_rng(0)
    height, width = size
    corner = rng.uniform(0, 0.7, (count, 2)) * (width, height)
    end = np.minimum(corner + rng.uniform(0.1, 0.6, (count, 2)) * (width, height), (width, height))
    return np.concatenate([corner, end], 1).astype(np.float32)[None]


def shared(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure, or count alone, one image by each system."""
    import jax

    from jaxseg import analysis

    size, found = tuple(options.size), []
    image = jax.numpy.asarray(np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8))
    boxes = jax.numpy.asarray(boxes_in(size, options.proposals))
    for name, (model, given, note) in networks(options.width, options.proposals).items():
        call = partial(_apply, model, given)
        structure = jax.eval_shape(model.init, jax.random.key(0), image)
        row: dict[str, Any] = {"system": name, COUNTED: analysis.operations(call, structure, image, boxes) / 1e9}
        if not options.count:
            variables = jax.jit(model.init)(jax.random.key(0, impl="rbg"), image)
            run: Callable[..., Any] = jax.jit(call)
            timed = {"jax": lambda run=run, v=variables: jax.block_until_ready(run(v, image, boxes))}
            row[SPENT] = measure.compare(name, timed, repeats=3, budget_s=options.budget).median_ms["jax"] / 1e3
        found.append({**row, "what runs": note})
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    return found


def _apply(model: Any, given: bool, variables: Any, image: Any, boxes: Any) -> Any:
    return model.apply(variables, image, None, None, boxes) if given else model.apply(variables, image)


def trained(name: str, minutes: float, data_dir: str | None) -> dict[str, Any]:
    """Train a recipe of the line for so long, in this process; its row of figures.

    Args:
      name: of the recipe.
      minutes: of updates.
      data_dir: where prepared data lie.
    """
    from jaxseg.recipe import load_file
    from jaxseg.recipe_files import find_file
    from jaxseg.train.loop import fit

    recipe = load_file(find_file(name))
    with tempfile.TemporaryDirectory() as folder:
        seconds = step_seconds(recipe, Path(folder) / "first", data_dir)
        steps = max(int(minutes * 60 / seconds), 8)
        rare = {"eval_every": steps, "save_every": steps, "log_every": max(steps // 8, 1), "pictures": 0}
        stage = replace(recipe.stages[0], steps=steps, **rare)
        print(f"{name}: {steps} updates of {seconds:.3g} s", file=sys.stderr, flush=True)
        place = Path(folder) / "run"
        figures = fit(replace(recipe, stages=(stage,)), place, data_dir=data_dir)
        return {
            "asked": minutes,
            "updates": steps,
            **{key: 100 * figures[key] for key in ("box_ap50", "box_ap", "mask_ap50", "mask_ap") if key in figures},
            "images a second": speed(str(place), data_dir),
            "search_s": search_seconds(stage.data, data_dir),
        }


def step_seconds(recipe: Any, workdir: Path, data_dir: str | None) -> float:
    """Seconds of a core that an update takes, without those of the first ones, which compile and fill queues."""
    import jax

    from jaxseg.train.log import Console
    from jaxseg.train.placement import single
    from jaxseg.train.stage import StageTrainer, open_stage

    quiet, begin = Console(quiet=True), 0.0
    with open_stage(recipe, 0, workdir, single(), data_dir, quiet) as (run, state):
        assert isinstance(run, StageTrainer)
        for i in range(FIRST + 4):
            if i == 4:
                jax.block_until_ready(state)
                begin = time.process_time()
            state = run.update(state, run.next_batch())
        jax.block_until_ready(state)
        return (time.process_time() - begin) / FIRST


def speed(workdir: str, data_dir: str | None) -> float:
    """Images a second of a core, in batches of one, from pixels and proposals to detections."""
    import jax

    import jaxseg
    from jaxseg.forward import forward
    from jaxseg.recipe import load_file

    run = jaxseg.load(workdir)
    stage = load_file(Path(workdir) / "recipe.json").stages[-1]
    batches = list(stage.data.eval_batches(batch_size=1, data_dir=data_dir, limit=20))
    call = jax.jit(forward(run.model, run.task))
    jax.block_until_ready(call(run.variables, batches[0]))
    begin = time.process_time()
    for batch in batches:
        jax.block_until_ready(call(run.variables, batch))
    return len(batches) / (time.process_time() - begin)


def search_seconds(data: Any, data_dir: str | None) -> float | None:
    """Seconds of a core that an image's search for proposals takes; None where nothing is searched."""
    from jaxseg.data.transforms import SelectiveSearch

    rng = np.random.default_rng(0)
    for step in data.val.transforms:
        if isinstance(step, SelectiveSearch):
            images = [batch["image"][0] for batch in data.eval_batches(batch_size=1, data_dir=data_dir, limit=5)]
            begin = time.process_time()
            for image in images:
                replace(step, cached=False)({"image": np.asarray(image)}, rng)
            return (time.process_time() - begin) / len(images)
    return None


def page(kept: dict[str, Any]) -> str:
    """All that was measured, as sections of the documentation's page."""
    parts = []
    counted, timed, trained_rows = kept.get("count"), kept.get("time"), kept.get("minutes", {})
    if counted or timed:
        parts.append(
            "## What sharing saves\n\nEach system on VGG16, one image; operations counted in the traced programs, "
            "multiply-adds as two.\n"
        )
    for part in (counted, timed):
        if part:
            parts.append(f"{part['title']}:\n\n{measure.as_table(part['rows'])}")
    if trained_rows:
        rows = [trained_rows[name] for name in LINE if name in trained_rows]
        asked = " or ".join(sorted({f"{row['asked']:g}" for row in rows}))
        machines = " or ".join(sorted({row["machine"] for row in rows}))
        about = (
            f"Each system's recipe trained for {asked} minutes of a core of {machines}; AP on the 200 held-out "
            "scenes of 128x128 pixels, in percent; images a second of a core, one at a time. What comes from "
            "outside, selective search, is in neither, but in the last column."
        )
        table = measure.as_table([_cells(name, trained_rows[name]) for name in LINE if name in trained_rows])
        parts.append(f"## The same minutes for each\n\n{about}\n\n{table}")
    return "\n".join(parts)


def _cells(name: str, row: dict[str, Any]) -> dict[str, Any]:
    system, sharing = LINE[name]
    return {
        "system": system,
        "shared between regions": sharing,
        "updates": row["updates"],
        "box AP50": row.get("box_ap50"),
        "box AP": row.get("box_ap"),
        "mask AP50": row.get("mask_ap50"),
        "mask AP": row.get("mask_ap"),
        "images a second": row["images a second"],
        "search, s of a core": row["search_s"],
    }


def read(path: Path) -> dict[str, Any]:
    """What a file has kept; nothing of one that is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def add(path: Path, change: dict[str, Any]) -> None:
    """Put parts into the file, rows of the minutes beside those that are there, and write its page anew."""
    from jaxseg.files import atomic

    kept = read(path)
    minutes = {**kept.get("minutes", {}), **change.get("minutes", {})}
    kept = {**kept, **change, **({"minutes": minutes} if minutes else {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    for place, text in ((path, json.dumps(kept, indent=1) + "\n"), (path.with_suffix(".md"), page(kept))):
        with atomic(place) as written:
            written.write_text(text, encoding="utf-8")


def train_line(options: argparse.Namespace) -> None:
    """Train what is not kept yet: one system here, or all of them, each in a process of its own."""
    names = [options.system] if options.system else list(LINE)
    for name in names:
        done = read(options.keep).get("minutes", {}).get(name)
        if done and done["asked"] == options.minutes:
            print(f"{name}: kept already", file=sys.stderr, flush=True)
        elif options.system:
            row = trained(name, options.minutes, options.data_dir)
            row = {**row, "machine": computer()}
            add(options.keep, {"minutes": {name: row}})
            print(json.dumps(row), file=sys.stderr, flush=True)
        else:
            command = [sys.executable, __file__, *sys.argv[1:], "--system", name]
            subprocess.run(command, check=True)


def computer() -> str:
    """Processor and cores."""
    about = measure.machine()
    return f"{about['processor']}, {about['cores']} cores"


def load() -> float:
    """How many processes wanted a core in the last minute, on average."""
    return os.getloadavg()[0]


def main() -> None:
    """Measure, keep, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--size", type=int, nargs=2, default=(160, 240), help="rows and columns (default 160 240)")
    parser.add_argument("--width", type=int, default=16, help="channels of VGG16's first block (default 16)")
    parser.add_argument("--proposals", type=int, default=200, help="of an image (default 200)")
    parser.add_argument("--count", action="store_true", help="count operations alone")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds at most for each row (default 60)")
    parser.add_argument("--minutes", type=float, help="of a core: train the line's recipes on scenes, each for so long")
    parser.add_argument("--system", choices=LINE, help="train this recipe alone")
    parser.add_argument("--data-dir", help="where prepared data lie")
    parser.add_argument("--keep", type=Path, default=KEEP, help="what is measured goes here, FILE.json")
    parser.add_argument("--page", action="store_true", help="only write the page of what is kept")
    options = parser.parse_args()
    if options.page:
        add(options.keep, {})
    elif options.minutes:
        train_line(options)
    else:
        of = f"VGG16 of width {options.width}, an image of {options.size[0]} by {options.size[1]} pixels"
        title = f"{of}, {options.proposals} proposals" + ("" if options.count else f", on {computer()}")
        rows = shared(options)
        title += "" if options.count else f" under a load of {load():.0f}"
        part = {"title": title, "rows": rows}
        add(options.keep, {"count" if options.count else "time": part})
    print(page(read(options.keep)))


if __name__ == "__main__":
    keep_freed_memory()
    main()
