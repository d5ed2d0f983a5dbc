"""Compare ways to score every pixel of an image: patch by patch, shift-and-stitch, densely.

Run it by ``python benchmarks/dense_vs_patchwise.py``.

The first three are one network, a patch classifier, with one set of weights, and give the same scores: each pixel's
patch by itself; shift-and-stitch, its strided form run at every shift; its dilated form, once. The others score every
pixel by construction: convolutions at full resolution, and a network that goes down and up again. Operations are
counted in the traced programs, multiply-adds as two; the field is what one score sees.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np

from jaxseg.cli.runtime import keep_freed_memory


@dataclass(frozen=True)
class Row:
    """One way: a model of the registry with its fields, and the function that evaluates it, None for ``apply``."""

    name: str
    model: str
    fields: tuple[tuple[str, int], ...] = ()
    evaluate: str = ""
    note: str = ""


PATCH = (("num_classes", 2),)
ROWS = (
    Row("patch by patch", "patch_classifier", PATCH, "score_patch_by_patch", "each window by itself"),
    Row("shift-and-stitch", "patch_classifier", PATCH, "score_shift_and_stitch", "256 runs at stride 16"),
    Row("dilated", "patch_classifier", PATCH, "score_dilated", "one run, strides traded for dilation"),
    Row("full-resolution FCN", "full_resolution_fcn", (*PATCH, ("width", 48)), note="4 convolutions of 3x3"),
    Row(
        "full-resolution FCN, deep",
        "full_resolution_fcn",
        (*PATCH, ("width", 48), ("depth", 47)),
        note="47 convolutions of 3x3, to see as far as the patch",
    ),
    Row("down-and-up FCN", "fcn_basic", (*PATCH, ("width", 48)), note="FCN-Basic: 7x7 convolutions, 4 pools, up again"),
)


def prepared(row: Row, size: int) -> tuple[Any, Callable[[Any, Any], Any], Any, Any]:
    """Model, evaluation ``(variables, image) -> logits``, variables and image."""
    import jax

    from jaxseg.models.semantic import sliding_window
    from jaxseg.registry import create_model

    model = create_model(row.model, **dict(row.fields))
    image = jax.numpy.asarray(np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8))
    variables = jax.jit(model.init)(jax.random.key(0, impl="rbg"), image)
    if row.evaluate:
        return model, partial(getattr(sliding_window, row.evaluate), model), variables, image
    return model, lambda v, x: model.apply(v, x)["logits"], variables, image


def measure_row(row: Row, size: int, *, repeats: int, budget_s: float) -> measure.Result:
    """Time, operations and field of one way."""
    import jax

    from jaxseg import analysis

    model, evaluate, variables, image = prepared(row, size)
    compiled = jax.jit(evaluate)
    result = measure.compare(
        row.name,
        {"jax": lambda: jax.block_until_ready(compiled(variables, image))},
        repeats=repeats,
        budget_s=budget_s,
        note=row.note,
    )
    result.extra["GFLOP"] = analysis.operations(evaluate, variables, image) / 1e9
    field = analysis.receptive_field(model)[1]
    result.extra["field px"] = float("nan") if field is None else field
    return result


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--size", type=int, default=32, help="side of the image (default 32)")
    parser.add_argument("--only", default="", metavar="PATTERN", help="rows whose name contains this")
    parser.add_argument("--repeats", type=int, default=5, help="turns at most for each row (default 5)")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds at most for each row (default 20)")
    parser.add_argument("--out", type=Path, help="write the table here too: .json, or markdown")
    options = parser.parse_args()
    results = []
    for row in ROWS:
        if options.only in row.name:
            results.append(measure_row(row, options.size, repeats=options.repeats, budget_s=options.budget))
            print(f"{row.name:28s} {results[-1].median_ms['jax']:9.1f} ms", file=sys.stderr, flush=True)
    about = measure.machine()
    title = f"One image of {options.size}x{options.size}, median ms on {about['processor']}, {about['cores']} cores"
    print(measure.table(results, title=title))
    if options.out:
        measure.write(results, options.out, title=title, about=about)


if __name__ == "__main__":
    keep_freed_memory()
    main()
