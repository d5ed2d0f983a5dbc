"""RoIAlign and RoI pooling against their definitions, sample by sample and cell by cell, in both forms."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxseg.errors import BadInput
from jaxseg.ops import roi, roi_forms, roi_pool
from jaxseg.ops.roi_samples import divide
from jaxseg.types import DATA_AXIS

F = np.float32
STRIDES = (4, 8)
SIZES = ((16, 20), (8, 10))
AWKWARD = [
    [0, 0, 80, 64],
    [10, 10, 10, 10],
    [-30, -20, 100, 90],
    [200, 200, 300, 300],
    [30, 30, 20, 20],
    [0, 0, 79, 3],
    [-1003.3, -98.7, 2001.1, 152.9],
    [8, 8, 24, 24],
]
"""The whole image, a point, beyond the image, outside it, inverted, long and thin, far beyond, and on cells."""


def pyramid(dtype=F):
    g = np.random.default_rng(0)
    return [jnp.asarray(g.standard_normal((2, *size, 3)), dtype) for size in SIZES]


def some_boxes():
    """Two images with 12 boxes, eight of them awkward, and their levels."""
    g = np.random.default_rng(1)
    corners = g.random((2, 12, 2, 2)) * [80, 64]
    boxes = np.concatenate([corners.min(2), corners.max(2)], -1).astype(F)
    boxes[0, : len(AWKWARD)] = AWKWARD
    return boxes, g.integers(0, 2, (2, 12)).astype(np.int32)


def grid(box, stride, size, ratio, aligned):
    """Rows [bins samples] and columns of the samples, as the papers' code has them, in float32."""
    axes = []
    for axis, bins in enumerate(size):
        lo, hi = (F(box[side]) * F(1 / stride) - F(0.5 if aligned else 0) for side in (1 - axis, 3 - axis))
        extent = hi - lo if aligned else max(hi - lo, F(1))
        bin_size = extent / F(bins)
        count = ratio or max(int(np.ceil(bin_size)), 0)
        i, k = np.arange(bins, dtype=F)[:, None], np.arange(count, dtype=F)[None]
        axes.append(lo + i * bin_size + (k + F(0.5)) * bin_size / F(max(count, 1)))
    return axes


def bilinear(at, length):
    """Cells below and above each place and their weights, zero outside."""
    inside = (at >= -1) & (at <= length)
    at = np.maximum(at.astype(np.float64), 0)
    low = np.minimum(np.floor(at).astype(int), length - 1)
    at = np.where(low >= length - 1, length - 1, at)
    return (low, (1 - at + low) * inside), (np.minimum(low + 1, length - 1), (at - low) * inside)


def literal(maps, boxes, levels, size, ratio, aligned, dy):
    """Every sample of every bin read from its four cells: the values, and what ``dy`` gives the maps."""
    out = np.zeros((*boxes.shape[:2], *size, maps[0].shape[-1]))
    gradients = [np.zeros(m.shape) for m in maps]
    for b, p in np.ndindex(*boxes.shape[:2]):
        x, gradient = np.asarray(maps[levels[b, p]], np.float64)[b], gradients[levels[b, p]][b]
        rows, columns = grid(boxes[b, p], STRIDES[levels[b, p]], size, ratio, aligned)
        count = max(rows.shape[1] * columns.shape[1], 1)
        for i, j in np.ndindex(*size):
            for y, wy in bilinear(rows[i], x.shape[0]):
                for z, wz in bilinear(columns[j], x.shape[1]):
                    weight = (wy[:, None] * wz[None])[..., None] / count
                    out[b, p, i, j] += (weight * x[y[:, None], z[None]]).sum((0, 1))
                    np.add.at(gradient, (y[:, None], z[None]), weight * dy[b, p, i, j])
    return out, gradients


def forms(ratio):
    """The form of the CPU, by which the platform chooses, and that of accelerators, forward and back."""
    if ratio in (1, 2):
        return roi_forms.samples_at_once, roi_forms.samples_gradient_at_once
    return roi_forms.spans_at_once, roi_forms.spans_gradient_at_once


@pytest.mark.parametrize("aligned", [False, True], ids=["legacy", "aligned"])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_every_bin_is_the_mean_of_its_samples_and_the_gradient_its_transpose(ratio, aligned):
    maps, (boxes, levels), size = pyramid(), some_boxes(), (3, 2)
    dy = np.cos(np.arange(2 * 12 * 6 * 3)).reshape(2, 12, *size, 3).astype(F)
    want, want_gradients = literal(maps, boxes, levels, size, ratio, aligned, dy)
    options = {"size": size, "strides": STRIDES, "sampling_ratio": ratio, "aligned": aligned}

    @jax.jit
    def both(maps, boxes, levels, dy):
        y, back = jax.vjp(lambda maps: roi.roi_align(maps, boxes, levels=levels, **options), maps)
        return y, back(dy)[0]

    @jax.jit
    def vectorised(maps, boxes, levels, dy):
        how = roi._How(size, tuple(map(float, STRIDES)), ratio, aligned, tuple(m.shape for m in maps), maps[0].dtype)
        forward, backward = forms(ratio)
        axes, flat = roi._axes(how, boxes, levels), dy.reshape(2, 12, 6, 3)
        return forward(tuple(maps), *axes, levels).reshape(dy.shape), backward(how.shapes, flat, *axes, levels)

    for call in (both, vectorised):
        y, gradients = call(maps, jnp.asarray(boxes), jnp.asarray(levels), jnp.asarray(dy))
        np.testing.assert_allclose(y, want, atol=1e-5)
        for ours, theirs in zip(gradients, want_gradients, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_adaptive_sampling_takes_as_many_samples_as_torchvision():
    """Boxes of whole bins: rounded another way, 21 / 7 is more than 3, and a bin would have four samples a side."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 50, 50, 2)), F)
    sides = np.arange(7, 50, 7, dtype=F)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], -1)[None]
    want, _ = literal([x], boxes * 4, np.zeros((1, 7), int), (7, 7), 0, False, np.zeros((1, 7, 7, 7, 2)))
    y = jax.jit(partial(roi.roi_align, size=7, strides=[1], sampling_ratio=0))([x], jnp.asarray(boxes))
    np.testing.assert_allclose(y, want, atol=1e-5)
    whole = np.arange(1, 5000, dtype=F)
    np.testing.assert_array_equal(jax.jit(partial(divide, count=7))(whole), whole / F(7))


def test_slots_without_a_box_give_zeros_and_take_no_gradient():
    maps, (boxes, _) = pyramid(), some_boxes()
    valid = np.ones((2, 12), bool)
    valid[1, 3:] = False
    boxes[0, 0, 2], boxes[0, 1, 0], boxes[0, 2] = np.nan, np.inf, -np.inf
    boxes[0, 3] = [-1e30, -1e30, 1e30, 1e30]
    nothing = ~valid
    nothing[0, :3] = True
    for ratio in (0, 2):
        call = partial(roi.roi_align, size=2, strides=STRIDES, sampling_ratio=ratio)

        @jax.jit
        def both(maps, boxes, valid, dy, call=call):
            y, back = jax.vjp(lambda maps, boxes: call(maps, boxes, valid), maps, boxes)
            return y, *back(dy)

        dy = nothing.astype(F)[:, :, None, None, None] * np.ones((1, 1, 2, 2, 3), F)
        y, gradients, by_boxes = both(maps, jnp.asarray(boxes), jnp.asarray(valid), jnp.asarray(dy))
        assert np.isfinite(y).all()
        assert (np.asarray(y)[nothing] == 0).all()
        assert (np.asarray(y)[~nothing] != 0).any((-1, -2, -3))[4:].all()
        assert all((np.asarray(g) == 0).all() for g in gradients)
        assert (np.asarray(by_boxes) == 0).all()
    pooled = roi_pool.roi_pool(maps[0], jnp.asarray(boxes), jnp.asarray(valid), size=2, stride=4)
    assert (np.asarray(pooled)[nothing] == 0).all()
    assert np.isfinite(pooled).all()


def test_levels_are_those_of_torchvision_and_whole_octaves_go_up():
    g = np.random.default_rng(0)
    side = np.exp(g.uniform(np.log(1), np.log(2000), (1, 20000, 2))).astype(F)
    boxes = np.concatenate([np.zeros_like(side), side], -1)
    boxes[0, :6, 2:] = np.array([56, 112, 224, 448, 896, 28], F)[:, None]
    boxes[0, 6:9] = [[5, 5, 5, 9], [9, 9, 5, 20], [np.nan, 0, 9, 9]]
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        want = np.floor(F(4) + np.log2(np.sqrt(area) / F(224)) + F(1e-6))
    want = np.nan_to_num(np.clip(want, 2, 5), nan=2) - 2
    levels = np.asarray(jax.jit(partial(roi.pyramid_levels, count=4))(jnp.asarray(boxes)))
    np.testing.assert_array_equal(levels, want)
    assert levels[0, :6].tolist() == [0, 1, 2, 3, 3, 0]
    assert len(np.unique(levels)) == 4
    maps = pyramid()
    boxes = jnp.asarray(np.asarray(boxes[:, 9:29]).repeat(2, 0))
    call = jax.jit(partial(roi.roi_align, size=1, strides=STRIDES))
    np.testing.assert_array_equal(call(maps, boxes), call(maps, boxes, levels=roi.pyramid_levels(boxes, 2)))


def test_transformations_and_types():
    maps, (boxes, levels) = pyramid(), some_boxes()
    boxes, levels = jnp.asarray(boxes[:, 7:]), jnp.asarray(levels[:, 7:])
    call = partial(roi.roi_align, size=2, strides=STRIDES)
    y = jax.jit(call)(maps, boxes, levels=levels)
    one = [m[:, None] for m in maps], boxes[:, None], levels[:, None]
    by_one = jax.jit(jax.vmap(lambda maps, boxes, levels: call(maps, boxes, levels=levels)))(*one)
    np.testing.assert_allclose(by_one[:, 0], y, atol=1e-6)
    loss = lambda maps: jnp.sum(call(maps, boxes, levels=levels) ** 2)  # noqa: E731
    again, once = (jax.jit(jax.grad(f))(maps) for f in (jax.checkpoint(loss), loss))
    for a, b in zip(again, once, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    low = [m.astype(jnp.bfloat16) for m in maps]
    assert all(g.dtype == jnp.bfloat16 for g in jax.eval_shape(jax.grad(loss), low))
    small = jax.jit(call)(low, boxes, levels=levels)
    assert small.dtype == jnp.bfloat16
    np.testing.assert_allclose(small.astype(F), y, atol=0.05)


def test_each_platform_has_its_form():
    maps, (boxes, levels) = pyramid(), some_boxes()

    def loss(maps, boxes, levels):
        return jnp.sum(roi.roi_align(maps, boxes, levels=levels, size=2, strides=STRIDES) ** 2)

    traced = jax.jit(jax.grad(loss)).trace(maps, jnp.asarray(boxes), jnp.asarray(levels))
    cpu, cuda, tpu = (traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda", "tpu"))
    assert "stablehlo.while" in cpu
    assert "scatter" not in cpu
    for text in (cuda, tpu):
        assert "stablehlo.while" not in text
        assert "scatter" in text


def test_a_program_is_exported_for_any_batch_and_size():
    b, h, w = export.symbolic_shape("b, h, w")
    maps, (boxes, levels) = pyramid(), some_boxes()
    call = jax.jit(partial(roi.roi_align, size=2, strides=STRIDES, sampling_ratio=0))
    shapes = [jax.ShapeDtypeStruct((b, n * h, n * w, 3), F) for n in (2, 1)]
    boxes, levels = jnp.asarray(boxes), jnp.asarray(levels)
    given = [jax.ShapeDtypeStruct((b, 12, *rest), dtype) for rest, dtype in (((4,), F), ((), np.int32))]
    align = jax.jit(lambda maps, boxes, levels: call(maps, boxes, levels=levels))
    program = export.export(align, platforms=("cpu", "cuda"))(shapes, *given)
    np.testing.assert_allclose(program.call(maps, boxes, levels), align(maps, boxes, levels), atol=1e-5)


def test_a_batch_spread_over_devices_exchanges_nothing_in_the_vectorised_forms():
    """The loops of a CPU run over the whole batch; accelerators keep it as an axis."""
    mesh = Mesh(np.array(jax.devices()), (DATA_AXIS,))
    rows = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    maps = [jnp.concatenate([m, -m]) for m in pyramid()]
    boxes, levels = (jnp.asarray(np.concatenate([a, a])) for a in some_boxes())

    def step(maps, boxes, levels, ratio):
        how = roi._How((2, 2), tuple(map(float, STRIDES)), ratio, False, tuple(m.shape for m in maps), maps[0].dtype)
        forward, backward = forms(ratio)
        axes = roi._axes(how, boxes, levels)
        return backward(how.shapes, forward(tuple(maps), *axes, levels), *axes, levels)

    call = jax.jit(partial(step, ratio=2), in_shardings=rows, out_shardings=rows)
    text = call.lower(maps, boxes, levels).compile().as_text()
    assert not re.search(r"all-|collective-permute", text)


def test_the_loops_need_no_room_for_samples():
    x = jnp.zeros((1, 32, 32, 64))
    boxes = jnp.zeros((1, 200, 4))
    samples = 200 * 49 * 16 * 64 * 4
    for ratio in (0, 2):
        loss = lambda x, ratio=ratio: jnp.sum(  # noqa: E731
            roi.roi_align([x], boxes, size=7, strides=[1], sampling_ratio=ratio) ** 2
        )
        memory = jax.jit(jax.grad(loss)).lower(x).compile().memory_analysis()
        assert memory.temp_size_in_bytes < samples / 4


def brute_force(x, boxes, size, stride):
    """The largest value of each bin and its cell, one bin at a time, in Caffe's float32."""
    h, w, c = x.shape[1:]
    out = np.zeros((*boxes.shape[:2], *size, c), x.dtype)
    cells = np.full(out.shape, -1)
    for b, p in np.ndindex(*boxes.shape[:2]):
        x0, y0, x1, y1 = (int(np.sign(v) * np.floor(abs(float(v)) + 0.5)) for v in boxes[b, p] * F(1 / stride))
        high, wide = F(max(y1 - y0 + 1, 1)) / F(size[0]), F(max(x1 - x0 + 1, 1)) / F(size[1])
        for i, j in np.ndindex(*size):
            top, left = (int(np.floor(F(k) * s)) + o for k, s, o in ((i, high, y0), (j, wide, x0)))
            bottom, right = (int(np.ceil(F(k + 1) * s)) + o for k, s, o in ((i, high, y0), (j, wide, x0)))
            top, bottom, left, right = max(top, 0), min(bottom, h), max(left, 0), min(right, w)
            if top < bottom and left < right:
                part = x[b, top:bottom, left:right].reshape(-1, c)
                out[b, p, i, j] = part.max(0)
                row, column = np.divmod(part.argmax(0), right - left)
                cells[b, p, i, j] = (row + top) * w + column + left
    return out, cells


@pytest.mark.parametrize("size", [(3, 2), (7, 7)], ids=str)
def test_roi_pool_takes_the_first_largest_cell_of_each_bin(size):
    g = np.random.default_rng(0)
    x = g.integers(-3, 4, (2, 20, 62, 3)).astype(F)
    boxes, _ = some_boxes()
    # 57 cells in 7 bins: in float32 the last bin ends one cell after the box
    boxes[1, :3] = [[0, 0, 56 * 4, 40], [2, 2, 6, 6], [-10, -6, 20, 30]]
    want, cells = brute_force(x, boxes, size, 4)
    dy = np.cos(np.arange(want.size)).reshape(want.shape).astype(F)
    gradient = np.zeros((2, 20 * 62, 3), F)
    for (b, *rest, c), cell in np.ndenumerate(cells):
        if cell >= 0:
            gradient[b, cell, c] += dy[(b, *rest, c)]

    def both(x, boxes, dy):
        y, back = jax.vjp(lambda x: roi_pool.roi_pool(x, boxes, size=size, stride=4), x)
        return y, back(dy)[0]

    y, dx = jax.jit(both)(jnp.asarray(x), jnp.asarray(boxes), jnp.asarray(dy))
    np.testing.assert_array_equal(y, want)
    np.testing.assert_allclose(dx.reshape(gradient.shape), gradient, atol=1e-5)
    valid = jnp.ones(boxes.shape[:2], bool)
    scaled = jnp.asarray(boxes) * F(0.25)
    runs = [
        side
        for axis, length in ((0, 20), (1, 62))
        for side in roi_pool._bins(scaled[..., 1 - axis], scaled[..., 3 - axis], valid, size[axis], length)
    ]
    for form in (roi_pool.by_loop, roi_pool.at_once):
        values, where = jax.jit(form)(jnp.asarray(x), *runs)
        np.testing.assert_array_equal(values.reshape(want.shape), want)
        np.testing.assert_array_equal(where.reshape(want.shape), cells)


@pytest.mark.parametrize("form", [roi_pool.by_loop, roi_pool.at_once])
def test_roi_pool_can_look_at_every_second_cell_of_a_bin(form):
    x = np.random.default_rng(0).normal(size=(1, 9, 9, 2)).astype(F)
    rows, columns = [(0, 4), (3, 8)], [(1, 4), (4, 4)]
    first, end, left, right = (
        jnp.asarray([[[run[i] for run in runs]]], jnp.int32) for runs in (rows, columns) for i in (0, 1)
    )
    values, cells = form(jnp.asarray(x), first, end, left, right, every=2)
    for k, ((top, bottom), (start, stop)) in enumerate((row, column) for row in rows for column in columns):
        part = x[0, top:bottom:2, start:stop:2].reshape(-1, 2)
        np.testing.assert_array_equal(values[0, 0, k], part.max(0) if len(part) else np.zeros(2))
        found = np.asarray(cells[0, 0, k])
        assert (found >= 0).all() == bool(len(part))
        assert all(x[0].reshape(-1, 2)[cell, c] == part[:, c].max() for c, cell in enumerate(found) if cell >= 0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, b: roi.roi_align(m, b, size=2, strides=[4]), "2 maps and 1 strides"),
        (lambda m, b: roi.roi_align([], b, size=2, strides=[]), "at least one map"),
        (lambda m, b: roi.roi_align(m, b, size=2, strides=STRIDES, sampling_ratio=-1), "ratio of -1"),
        (lambda m, b: roi.roi_align(m, b, size=0, strides=STRIDES), "size is 0"),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(BadInput, match=words):
        call(pyramid(), jnp.zeros((2, 1, 4)))
