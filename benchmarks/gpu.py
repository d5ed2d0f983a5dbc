"""Ops and networks beside PyTorch on a GPU, in one run: ``python benchmarks/gpu.py``.

The rows are those of ``ops.py`` and ``networks.py`` with more images (``--images``), so that a call fills the chip.
Both frameworks compute in float32 with TF32 in convolutions and matrix products, XLA's default on these chips; PyTorch
chooses its algorithms by trial (``cudnn.benchmark``), as XLA does, and runs in both memory layouts. A time is that of
one call among many that are sent off one after the other, as in training, and waited for together; the columns of a
row take turns. Peak memory is what PyTorch's allocator has held at most. ``--cpu-forms`` puts the forms of
``jaxseg/ops/cpu`` in our column, to see whether one of them would pay on a GPU. Needs JAX and PyTorch with CUDA.
"""

import argparse
import gc
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the two share the card
import jax
import measure
import networks
import ops
import torch

from jaxseg.ops.backend import using

SAMPLE_S = 0.03
"""Calls are sent off together for at least so long."""

Columns = dict[str, Callable[[], object]]


def seconds(column: str, call: Callable[[], object], times: int) -> float:
    """Of one call among ``times``."""
    _wait(column, call())
    begin = time.perf_counter()
    for _ in range(times):
        last = call()
    _wait(column, last)
    return (time.perf_counter() - begin) / times


def compare(name: str, columns: Columns, first_s: dict[str, float], *, turns: int, note: str = "") -> measure.Result:
    """Medians over the turns."""
    counts = {c: max(1, round(SAMPLE_S / seconds(c, call, 3))) for c, call in columns.items()}
    taken: dict[str, list[float]] = {c: [] for c in columns}
    for _ in range(turns):
        for column, call in columns.items():
            taken[column].append(seconds(column, call, counts[column]) * 1e3)
    medians = {c: statistics.median(ms) for c, ms in taken.items()}
    result = measure.Result(name, medians, first_s, note, reference="torch")
    print(f"{name:62s} {result.ratio:5.2f}   " + "  ".join(f"{c} {ms:.3f}" for c, ms in medians.items()), flush=True)
    return result


def compiled(calls: Iterable[Callable[[], object]]) -> list[float]:
    """Each of JAX's calls made once, many at a time; seconds of each, while the others compiled too."""

    def first(call: Callable[[], object]) -> float:
        begin = time.perf_counter()
        jax.block_until_ready(call())
        return time.perf_counter() - begin

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(first, calls))


def measure_ops(only: str, images: int, turns: int) -> Iterator[measure.Result]:
    """Every op, forward and gradient, one after the other."""
    rows = [replace(r, shapes=((r.shapes[0][0] * images, *r.shapes[0][1:]), *r.shapes[1:])) for r in ops.rows()]
    kinds = []
    for row in rows:
        if re.search(only, row.name):
            calls = ops.calls_of(row, device="cuda")
            kinds += [(f"{row.name}: forward", calls.forward), (f"{row.name}: gradient", calls.gradient)]
    took = compiled([columns["jaxseg"] for _, columns in kinds])
    for (name, columns), first in zip(kinds, took, strict=True):
        yield compare(name, columns, {"jaxseg": first}, turns=turns)


def measure_networks(only: str, images: int, turns: int, remarks: list[str]) -> Iterator[measure.Result]:
    """Every network whose PyTorch side is there, inference and training step; ``remarks`` takes those on the others."""
    kept = []
    for row in networks.ROWS:
        modes = [mode for mode in networks.MODES if re.search(only, f"{row.model}: {mode}")]
        if modes and row.missing:
            remarks.append(f"{row.model}: not measured here, for want of {' and '.join(row.missing)}")
        else:
            kept += [(replace(row, images=images), mode) for mode in modes]
    ready = [networks.jax_call(row, mode) for row, mode in kept]
    took = compiled(ready)
    for i, ((row, mode), first) in enumerate(zip(kept, took, strict=True)):
        columns: Columns = {"jax": ready[i]}
        peaks = {}
        for column in networks.COLUMNS[1:]:
            torch.cuda.reset_peak_memory_stats()
            columns[column] = networks.torch_call(row, mode, column, device="cuda")
            columns[column]()
            peaks[column] = torch.cuda.max_memory_allocated() / 2**20
        note = f"{networks.MODES[mode] * images} images of {row.size}x{row.size}{row.note and ', '}{row.note}"
        result = compare(f"{row.model}: {mode}", columns, {"jax": first}, turns=turns, note=note)
        result.extra["torch peak MB"] = min(peaks.values())
        yield result
        ready[i] = columns = None  # its arrays go before the next row's come
        gc.collect()
        torch.cuda.empty_cache()


def _wait(column: str, value: Any) -> None:
    if column.startswith("torch"):
        torch.cuda.synchronize()
    else:
        jax.block_until_ready(value)


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", metavar="REGEX", help="rows in whose name this is found")
    parser.add_argument("--what", choices=["ops", "networks", "both"], default="both", help="(both)")
    parser.add_argument("--images", type=int, default=8, help="times as many as on the CPU (8)")
    parser.add_argument("--turns", type=int, default=5, help="for each row (5)")
    parser.add_argument("--cpu-forms", action="store_true", help="our forms for the CPU instead of XLA's calls")
    parser.add_argument("--out", type=Path, help="write the tables here too, as markdown")
    options = parser.parse_args()
    if jax.default_backend() != "gpu" or not torch.cuda.is_available():
        sys.exit(f"a GPU is wanted for both frameworks; JAX runs on {jax.default_backend()}")
    with using("cpu" if options.cpu_forms else "auto"):
        measure_all(options)


def measure_all(options: argparse.Namespace) -> None:
    """Measure the parts that are asked for, print them, and write them if asked."""
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # TF32 in matrix products too
    card = f"{torch.cuda.get_device_name()}, jax {jax.__version__}, torch {torch.__version__}"
    remarks: list[str] = []
    parts = {
        "ops": (f"## Ops, median ms of a call on {card}", measure_ops, ()),
        "networks": (f"## Networks, median ms on {card}", measure_networks, (remarks,)),
    }
    tables = {}
    for part, (title, run, more) in parts.items():
        if options.what in (part, "both"):
            results = []
            for result in run(options.only, options.images, options.turns, *more):
                results.append(result)
                tables[part] = measure.table(results, title=title, remarks=remarks if more else ())
                if options.out:  # after each row: a run may be cut off
                    options.out.parent.mkdir(parents=True, exist_ok=True)
                    options.out.write_text("# On a GPU\n\n" + "\n".join(tables.values()))
    print("\n" + "\n".join(tables.values()))


if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # the tests know how to import torchvision
    main()
