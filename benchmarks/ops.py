"""Each op beside PyTorch's on the CPU, forward and gradient, in one run: ``python benchmarks/ops.py``.

PyTorch runs in both its memory layouts, and the ratio is against the faster one. Both frameworks keep freed memory
mapped, as the command line has it. "Gradient" is the backward pass alone, for the map and the kernel; for pooling, ours
repeats its forward pass to find the winners, PyTorch's reads the indices that it has kept. ``--plain`` adds what XLA
does when one simply calls it, which is what the forms in ``jaxseg/ops/cpu`` have to beat by 1.2 times. Needs the
extra ``parity``.
"""

import argparse
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import measure
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from jax import Array, lax

from jaxseg.cli.runtime import keep_freed_memory
from jaxseg.ops import conv as convs
from jaxseg.ops import pool, resize, xla
from jaxseg.ops.window import ConvGeometry, effective_kernel_size, explicit_pads, pair

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One op at one size: ours, XLA's own call (None if that takes minutes) and torch's, on the same numbers."""

    name: str
    shapes: tuple[Shape, ...]
    ours: Callable[..., Array]
    torchs: Callable[..., torch.Tensor]
    plain: Callable[..., Array] | None = None
    transposed: bool = False
    note: str = ""


def conv_row(name: str, x: Shape, kernel: Shape, *, note: str = "", **options: Any) -> Row:
    """A convolution in torch's options."""
    stride, dilation = pair(options.get("stride", 1), "stride"), pair(options.get("dilation", 1), "dilation")
    pads = explicit_pads(options.get("padding", 0), x[1:3], kernel[:2], stride, dilation)
    geometry = ConvGeometry(stride, pads, dilation, options.get("groups", 1))
    ours = partial(convs.conv, **options)
    return Row(
        name, (x, kernel), ours, partial(F.conv2d, **options), partial(xla.xla_conv, geometry=geometry), note=note
    )


def transposed_row(name: str, x: Shape, kernel: Shape, *, plain: bool = True, note: str = "", **options: Any) -> Row:
    """A transposed convolution in torch's options."""
    stride, p = options.get("stride", 1), options.get("padding", 0)
    spans = effective_kernel_size((kernel[0], kernel[1]), (1, 1))
    size = [(n - 1) * stride + k - 2 * p + options.get("output_padding", 0) for n, k in zip(x[1:3], spans, strict=True)]
    geometry = ConvGeometry((stride, stride), ((p, p), (p, p)), (1, 1), options.get("groups", 1))
    own = partial(xla.xla_conv_transpose, size=tuple(size), geometry=geometry) if plain else None
    ours, theirs = partial(convs.conv_transpose, **options), partial(F.conv_transpose2d, **options)
    return Row(name, (x, kernel), ours, theirs, own, transposed=True, note=note)


def pool_row(name: str, x: Shape, window: int, stride: int, padding: int) -> Row:
    """A maximum pooling."""
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    own = partial(
        lambda x: lax.reduce_window(x, -np.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), around)
    )
    ours = partial(pool.max_pool, window=window, stride=stride, padding=padding)
    theirs = partial(F.max_pool2d, kernel_size=window, stride=stride, padding=padding)
    return Row(name, (x,), ours, theirs, own)


def unpool_row(name: str, x: Shape, window: int) -> Row:
    """Unpooling at the switches of a random map."""

    def base(n: int) -> np.ndarray:
        return np.random.default_rng(1).standard_normal((n, x[1] * window, x[2] * window, x[3]), dtype=np.float32)

    @cache
    def switches(n: int) -> Array:
        with jax.ensure_compile_time_eval():
            return pool.max_pool_with_switches(jnp.asarray(base(n)), window)[1]

    @cache
    def indices(n: int, layout: torch.memory_format, device: torch.device) -> torch.Tensor:
        _, index = F.max_pool2d(torch.tensor(base(n)).permute(0, 3, 1, 2), window, return_indices=True)
        return index.to(device).contiguous(memory_format=layout)

    def theirs(x: torch.Tensor) -> torch.Tensor:
        last = x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return F.max_unpool2d(x, indices(x.shape[0], layout, x.device), window)

    return Row(name, (x,), lambda x: pool.max_unpool(x, switches(x.shape[0]), window), theirs)


def resize_row(name: str, x: Shape, size: tuple[int, int], *, align_corners: bool = False) -> Row:
    """A bilinear interpolation."""
    ours = partial(resize.resize_bilinear, size=size, align_corners=align_corners)
    theirs = partial(F.interpolate, size=size, mode="bilinear", align_corners=align_corners)
    own = None if align_corners else partial(jax.image.resize, shape=(x[0], *size, x[3]), method="linear")
    return Row(name, (x,), ours, theirs, own)


def rows() -> list[Row]:
    """The ops at the sizes at which the networks of the zoo use them."""
    ones = {"padding": 1}
    return [
        conv_row("3x3, 64 ch, 128x128", (1, 128, 128, 64), (3, 3, 64, 64), **ones),
        conv_row("3x3, 256 ch, 64x64", (1, 64, 64, 256), (3, 3, 256, 256), **ones),
        conv_row("3x3, 512 ch, 32x32", (1, 32, 32, 512), (3, 3, 512, 512), **ones),
        conv_row("3x3, 16 ch, 90x120, batch 4 (ENet)", (4, 90, 120, 16), (3, 3, 16, 16), **ones),
        conv_row("3x3, 32 ch, 45x60, batch 4 (ENet)", (4, 45, 60, 32), (3, 3, 32, 32), **ones),
        conv_row("5x1, 32 ch, 45x60, batch 4 (ENet)", (4, 45, 60, 32), (5, 1, 32, 32), padding=(2, 0)),
        conv_row("1x5, 32 ch, 45x60, batch 4 (ENet)", (4, 45, 60, 32), (1, 5, 32, 32), padding=(0, 2)),
        conv_row("3x3 dilated 4, 32 ch, 45x60, batch 4 (ENet)", (4, 45, 60, 32), (3, 3, 32, 32), padding=4, dilation=4),
        conv_row("3x3 dilated 16, 32 ch, 45x60, batch 4", (4, 45, 60, 32), (3, 3, 32, 32), padding=16, dilation=16),
        conv_row("3x3 dilated 2, 512 ch, 33x33", (1, 33, 33, 512), (3, 3, 512, 512), padding=2, dilation=2),
        conv_row("3x3 dilated 12, 512 -> 256, 33x33", (1, 33, 33, 512), (3, 3, 512, 256), padding=12, dilation=12),
        conv_row("3x3 dilated 24, 512 -> 256, 33x33", (1, 33, 33, 512), (3, 3, 512, 256), padding=24, dilation=24),
        conv_row("3x3 stride 2, 256 ch, 64x64", (1, 64, 64, 256), (3, 3, 256, 256), stride=2, **ones),
        conv_row("3x3 stride 2, 3 -> 13, 360x480 (ENet)", (1, 360, 480, 3), (3, 3, 3, 13), stride=2, **ones),
        conv_row("2x2 stride 2, 64 -> 32, 90x120, batch 4", (4, 90, 120, 64), (2, 2, 64, 32), stride=2),
        conv_row("7x7 stride 2, 3 -> 64, 256x256", (1, 256, 256, 3), (7, 7, 3, 64), stride=2, padding=3),
        conv_row("3x3 padded by 100, 3 -> 64, 128x128", (1, 128, 128, 3), (3, 3, 3, 64), padding=100),
        conv_row("7x7, 512 -> 4096, 11x11 (FCN fc6)", (1, 11, 11, 512), (7, 7, 512, 4096)),
        conv_row("14x14, 96 -> 64, 14x14, batch 192 (dense layer)", (192, 14, 14, 96), (14, 14, 96, 64)),
        conv_row("1x1, 256 ch, 64x64", (1, 64, 64, 256), (1, 1, 256, 256)),
        conv_row("1x1, 128 -> 32, 45x60, batch 4", (4, 45, 60, 128), (1, 1, 128, 32)),
        conv_row("1x1 stride 2, 256 -> 512, 64x64", (1, 64, 64, 256), (1, 1, 256, 512), stride=2),
        conv_row("depthwise 3x3, 256 ch, 64x64", (1, 64, 64, 256), (3, 3, 1, 256), groups=256, **ones),
        conv_row(
            "depthwise 3x3 stride 2, 96 ch, 112x112", (1, 112, 112, 96), (3, 3, 1, 96), groups=96, stride=2, **ones
        ),
        conv_row(
            "depthwise 7x7, 64 ch, 90x120 (SegNet-Basic's decoder)",
            (1, 90, 120, 64),
            (7, 7, 1, 64),
            groups=64,
            padding=3,
        ),
        conv_row("grouped (32) 3x3, 256 ch, 64x64", (1, 64, 64, 256), (3, 3, 8, 256), groups=32, **ones),
        transposed_row("transposed 4x4 stride 2, 256 ch, 32x32", (1, 32, 32, 256), (4, 4, 256, 256), stride=2, **ones),
        transposed_row("transposed 2x2 stride 2, 256 -> 128, 32x32", (1, 32, 32, 256), (2, 2, 256, 128), stride=2),
        transposed_row(
            "transposed 3x3 stride 2, 16 ch, 90x120 (ENet)",
            (1, 90, 120, 16),
            (3, 3, 16, 16),
            stride=2,
            padding=1,
            output_padding=1,
        ),
        transposed_row("transposed 2x2 stride 2, 16 -> 11, 180x240", (1, 180, 240, 16), (2, 2, 16, 11), stride=2),
        transposed_row("transposed 16x16 stride 8, 21 ch, 32x32", (1, 32, 32, 21), (16, 16, 21, 21), stride=8),
        transposed_row(
            "transposed 64x64 stride 32, 21 ch, 12x12", (1, 12, 12, 21), (64, 64, 21, 21), plain=False, stride=32
        ),
        transposed_row(
            "transposed 4x4 stride 2 per channel, 21 ch", (1, 64, 64, 21), (4, 4, 21, 1), stride=2, groups=21, **ones
        ),
        pool_row("max pool 2x2, 64 ch, 256x256", (1, 256, 256, 64), 2, 2, 0),
        pool_row("max pool 3x3 stride 2, 64 ch, 128x128", (1, 128, 128, 64), 3, 2, 1),
        pool_row("max pool 3x3 stride 1, 512 ch, 32x32", (1, 32, 32, 512), 3, 1, 1),
        unpool_row("max unpool 2x2, 64 ch, 128x128", (1, 128, 128, 64), 2),
        Row(
            "average pool 2x2, 64 ch, 256x256",
            ((1, 256, 256, 64),),
            partial(pool.avg_pool, window=2),
            partial(F.avg_pool2d, kernel_size=2),
        ),
        Row(
            "adaptive average pool to 6x6, 512 ch, 64x64",
            ((1, 64, 64, 512),),
            partial(pool.adaptive_avg_pool, size=6),
            partial(F.adaptive_avg_pool2d, output_size=6),
        ),
        resize_row("bilinear x2, 256 ch, 32x32", (1, 32, 32, 256), (64, 64)),
        resize_row("bilinear x4, 128 ch, 64x64", (1, 64, 64, 128), (256, 256)),
        resize_row("bilinear x8, 21 ch, 32x32", (1, 32, 32, 21), (256, 256)),
        resize_row("bilinear 6x6 -> 60x60, 512 ch, corners aligned", (1, 6, 6, 512), (60, 60), align_corners=True),
    ]


@dataclass(frozen=True)
class Calls:
    """A row's columns, forward and gradient, on the same numbers. On a GPU a call returns before it is done."""

    forward: dict[str, Callable[[], object]]
    gradient: dict[str, Callable[[], object]]


def calls_of(row: Row, *, plain: bool = False, device: str = "cpu") -> Calls:
    """The columns "jaxseg", "xla" (if asked for), "torch nhwc" and "torch nchw"; JAX's run on its default device."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in row.shapes]
    args = [jnp.asarray(a) for a in arrays]
    g = jnp.asarray(rng.standard_normal(jax.eval_shape(row.ours, *args).shape, dtype=np.float32))
    calls = Calls({}, {})
    for name, call in {"jaxseg": row.ours, **({"xla": row.plain} if plain and row.plain else {})}.items():
        calls.forward[name], calls.gradient[name] = _jax_calls(call, args, g)
    for name, layout in {"torch nhwc": torch.channels_last, "torch nchw": torch.contiguous_format}.items():
        calls.forward[name], calls.gradient[name] = _torch_calls(row, arrays, np.asarray(g), layout, device)
    return calls


def measure_row(
    row: Row, *, repeats: int, budget_s: float, plain: bool, clock: Callable[[], float]
) -> list[measure.Result]:
    """Forward and gradient of one row, on the CPU."""
    calls = calls_of(row, plain=plain)
    # The ratio is to torch, not to XLA.
    take = partial(measure.compare, repeats=repeats, budget_s=budget_s, note=row.note, reference="torch", clock=clock)
    kinds = (("forward", calls.forward), ("gradient", calls.gradient))
    return [
        take(f"{row.name}: {kind}", {name: partial(_done, call) for name, call in columns.items()})
        for kind, columns in kinds
    ]


def _done(call: Callable[[], object]) -> None:
    jax.block_until_ready(call())  # what torch returns on the CPU is there already


def _jax_calls(call: Callable[..., Array], args: list[Array], g: Array) -> tuple[Callable, Callable]:
    forward = jax.jit(call)
    backward = jax.jit(lambda args, g: jax.vjp(call, *args)[1](g))
    return lambda: forward(*args), lambda: backward(args, g)


def _torch_calls(row: Row, arrays: list[np.ndarray], g: np.ndarray, layout: torch.memory_format, device: str) -> tuple:
    def move(a: np.ndarray, *, kernel: bool = False) -> torch.Tensor:
        order = (0, 3, 1, 2) if not kernel else ((2, 3, 0, 1) if row.transposed else (3, 2, 0, 1))
        return torch.tensor(a).permute(*order).to(device).contiguous(memory_format=layout)

    args = [move(a, kernel=i == 1).requires_grad_() for i, a in enumerate(arrays)]
    seed = move(g)
    y = row.torchs(*args)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return row.torchs(*args)

    return forward, lambda: torch.autograd.grad(y, args, seed, retain_graph=True)


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", metavar="REGEX", help="rows in whose name this is found")
    parser.add_argument("--repeats", type=int, default=15, help="turns at most for each row (default 15)")
    parser.add_argument("--budget", type=float, default=4.0, help="seconds at most for each row (default 4)")
    parser.add_argument("--quick", action="store_true", help="three turns: only to see that everything runs")
    parser.add_argument("--plain", action="store_true", help="also time XLA's own call")
    parser.add_argument("--out", type=Path, help="write the table here too: .json, or markdown")
    parser.add_argument("--one-core", action="store_true", help="processor time on one core: for a busy machine")
    options = parser.parse_args()
    clock = time.perf_counter
    if options.one_core:
        clock = time.process_time
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    results = []
    for row in rows():
        if re.search(options.only, row.name):
            repeats, budget = (3, 0.5) if options.quick else (options.repeats, options.budget)
            taken = measure_row(row, repeats=repeats, budget_s=budget, plain=options.plain, clock=clock)
            for result in taken:
                times = "  ".join(f"{c} {ms:.2f}" for c, ms in result.median_ms.items())
                print(f"{result.name:62s} {result.ratio:5.2f}   {times}", flush=True)
            results += taken
    about = measure.machine()
    title = f"Ops, median ms on {about['processor']}, {about['cores']} core(s)"
    print("\n" + measure.table(results, title=title))
    slow = [r.name for r in results if r.ratio > 1]
    print(f"{len(results) - len(slow)} of {len(results)} at or below 1.0" + "".join(f"\n  above: {n}" for n in slow))
    if options.out:
        measure.write(results, options.out, title=title, about=about)


if __name__ == "__main__":
    keep_freed_memory()
    main()
