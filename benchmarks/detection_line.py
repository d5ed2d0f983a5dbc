"""Tell the line from R-CNN to one stage in figures: ``python benchmarks/detection_line.py``.

The first table is of one image and one backbone, VGG16: R-CNN runs it on every proposal, Fast R-CNN once, Faster R-CNN
once, proposals included. Weights are random. Operations are counted in the traced programs, multiply-adds as two; what
makes the proposals of the first two is not among them. ``--width``, ``--size`` and ``--proposals`` are the paper's with
64, 600 1000 and 2000, for which ``--count`` leaves out the timing.

``--minutes M`` trains each system's recipe on the embedded scenes for so long instead, on this machine, and tells its
AP and how many images it finds the objects of in a second.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np

from jaxseg.cli.runtime import keep_freed_memory

LINE = {
    "rcnn_scenes": ("R-CNN, softmax", "nothing: the network sees every proposal by itself"),
    "fast_rcnn_scenes": ("Fast R-CNN", "the convolutions; proposals come from outside"),
    "faster_rcnn_end_to_end_scenes": ("Faster R-CNN", "the convolutions, with the proposals"),
    "ssd_scenes": ("SSD", "everything: one stage, a box for every cell of several maps"),
    "yolo_scenes": ("YOLO", "everything: one stage, one map"),
    "retinanet_scenes": ("RetinaNet", "everything: one stage, on a pyramid"),
}
"""Recipes by name: the system, and what it shares between regions."""


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
    made = {"width": width, "dense": dense}
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


def shared(options: argparse.Namespace) -> list[measure.Result]:
    """Measure, or count alone, one image by each system."""
    import jax

    from jaxseg import analysis

    size, found = tuple(options.size), []
    image = jax.numpy.asarray(np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8))
    boxes = jax.numpy.asarray(boxes_in(size, options.proposals))
    for name, (model, given, note) in networks(options.width, options.proposals).items():
        call = partial(_apply, model, given)
        structure = jax.eval_shape(model.init, jax.random.key(0), image)
        billions = analysis.operations(call, structure, image, boxes) / 1e9
        if options.count:
            result = measure.Result(name, {}, {"jax": float("nan")}, note)
        else:
            variables = jax.jit(model.init)(jax.random.key(0, impl="rbg"), image)
            run: Callable[..., Any] = jax.jit(call)
            timed = {"jax": lambda run=run, v=variables: jax.block_until_ready(run(v, image, boxes))}
            result = measure.compare(name, timed, repeats=3, budget_s=options.budget, note=note)
            result.extra["s an image"] = result.median_ms["jax"] / 1e3
        result.extra["GFLOP an image"] = billions
        found.append(result)
        print(f"{name:14s} {billions:10.1f} GFLOP", file=sys.stderr, flush=True)
    return found


def _apply(model: Any, given: bool, variables: Any, image: Any, boxes: Any) -> Any:
    return model.apply(variables, image, None, None, boxes) if given else model.apply(variables, image)


def trained(minutes: float, data_dir: str | None) -> list[dict[str, Any]]:
    """Train each recipe of the line for so long; a row of figures for each."""
    from jaxseg.recipe_files import shipped

    rows = []
    for name, (system, sharing) in LINE.items():
        if name in shipped():
            with tempfile.TemporaryDirectory() as folder:
                rows.append(
                    {"system": system, "shared between regions": sharing, **_row(name, folder, minutes, data_dir)}
                )
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _row(name: str, folder: str, minutes: float, data_dir: str | None) -> dict[str, Any]:
    where = [] if data_dir is None else ["--data-dir", data_dir]

    def train(steps: int, workdir: str) -> list[dict[str, Any]]:
        sets = {
            "steps": steps,
            "eval_every": steps,
            "save_every": steps,
            "log_every": max(steps // 4, 1),
            "pictures": 0,
        }
        changes = [word for key, value in sets.items() for word in ("--set", f"stages.0.{key}={value}")]
        program = "import sys; from jaxseg.cli.main import main; sys.exit(main())"
        command = [sys.executable, "-c", program, "train", name, "--workdir", workdir, *where, *changes]
        subprocess.run(command, check=True, stdout=sys.stderr, env=dict(os.environ))
        return [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]

    seconds = [row["seconds"] for row in train(24, f"{folder}/first") if "seconds" in row][-1]
    steps = max(int(minutes * 60 / seconds), 8)
    figures = [row for row in train(steps, f"{folder}/run") if row.get("split") == "val"][-1]
    return {
        "updates": steps,
        "AP50": 100 * figures["box_ap50"],
        "AP": 100 * figures["box_ap"],
        "images a second": speed(f"{folder}/run", data_dir),
    }


def speed(workdir: str, data_dir: str | None) -> float:
    """Images a second, in batches of one, from pixels and proposals to detections."""
    import jax

    import jaxseg
    from jaxseg.forward import forward
    from jaxseg.recipe import load_file

    run = jaxseg.load(workdir)
    stage = load_file(Path(workdir) / "recipe.json").stages[-1]
    batches = list(stage.data.eval_batches(batch_size=1, data_dir=data_dir, limit=20))
    call = jax.jit(forward(run.model, run.task))
    jax.block_until_ready(call(run.variables, batches[0]))
    begin = time.perf_counter()
    for batch in batches:
        jax.block_until_ready(call(run.variables, batch))
    return len(batches) / (time.perf_counter() - begin)


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a markdown table."""
    head = list(rows[0])
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [f"{row[key]:.1f}" if isinstance(row[key], float) else str(row[key]) for key in head]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--size", type=int, nargs=2, default=(160, 240), help="rows and columns (default 160 240)")
    parser.add_argument("--width", type=int, default=16, help="channels of VGG16's first block (default 16)")
    parser.add_argument("--proposals", type=int, default=200, help="of an image (default 200)")
    parser.add_argument("--count", action="store_true", help="count operations alone")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds at most for each row (default 60)")
    parser.add_argument("--minutes", type=float, help="train the line's recipes on scenes, each for so long")
    parser.add_argument("--data-dir", help="where prepared data lie")
    parser.add_argument("--out", type=Path, help="write the table here too")
    options = parser.parse_args()
    about = measure.machine()
    machine = f"{about['processor']}, {about['cores']} cores"
    if options.minutes:
        title = f"Each system trained for {options.minutes:g} minutes on {machine}: 200 held-out scenes of 128x128"
        text = f"{title}\n\n{as_table(trained(options.minutes, options.data_dir))}"
    else:
        of = f"VGG16 of width {options.width}, one image of {options.size[0]}x{options.size[1]}"
        title = f"{of}, {options.proposals} proposals"
        found = shared(options)
        if options.count:
            rows = [{"system": row.name, **row.extra, "what runs": row.note} for row in found]
            text = f"{title}\n\n{as_table(rows)}"
        else:
            text = measure.table(found, title=f"{title}, on {machine}")
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    keep_freed_memory()
    main()
