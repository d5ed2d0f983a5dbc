"""Convolutions against XLA's plain call, PyTorch and the papers' numbers, through every transformation."""

import re
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxseg.errors import BadInput
from jaxseg.ops import conv as convs
from jaxseg.types import DATA_AXIS


class Case(NamedTuple):
    """Shapes and options of one convolution."""

    x: tuple[int, ...]
    kernel: tuple[int, ...]
    options: Mapping = MappingProxyType({})


X = (2, 9, 10, 4)
DEEP = (1, 9, 10, 64)
CONVS = {
    "plain": Case(X, (3, 3, 4, 6)),
    "padded": Case(X, (3, 3, 4, 6), {"padding": ((1, 2), (0, 3))}),
    "same": Case(X, (3, 2, 4, 6), {"padding": "SAME", "stride": 2}),
    "strided": Case(X, (3, 3, 4, 6), {"padding": 1, "stride": (2, 3)}),
    "stem": Case((1, 15, 15, 3), (7, 7, 3, 5), {"padding": 3, "stride": 2}),
    "patches": Case(X, (2, 3, 4, 6), {"stride": (2, 3)}),
    "patches, many channels": Case((1, 6, 7, 20), (2, 2, 20, 3), {"stride": 2}),
    "two strides long": Case((1, 17, 19, 5), (8, 10, 5, 3), {"padding": ((2, 1), (3, 0)), "stride": (4, 5)}),
    "very long strides": Case((1, 37, 36, 5), (32, 32, 5, 2), {"padding": ((2, 1), (3, 0)), "stride": 16}),
    "image": Case((1, 13, 12, 3), (3, 3, 3, 5), {"padding": 1, "stride": 2}),
    "head": Case((1, 8, 9, 64), (7, 7, 64, 32), {"padding": ((1, 0), (2, 1))}),
    "whole map": Case((2, 5, 6, 4), (5, 6, 4, 3)),
    "vertical": Case(X, (5, 1, 4, 3), {"padding": (2, 0)}),
    "horizontal": Case(X, (1, 5, 4, 3), {"padding": (0, 2)}),
    "large map": Case((1, 90, 96, 2), (3, 3, 2, 3), {"padding": 1}),
    "large map, many channels": Case((2, 65, 66, 2), (3, 2, 2, 32), {"padding": ((1, 0), (2, 1)), "dilation": (2, 1)}),
    "many channels": Case((1, 32, 35, 128), (3, 3, 128, 128), {"padding": ((1, 2), (0, 1))}),
    "many channels, dilated": Case((2, 24, 26, 128), (3, 3, 128, 130), {"padding": (1, 4), "dilation": (1, 2)}),
    "large padding": Case((1, 8, 9, 3), (3, 3, 3, 4), {"padding": 20}),
    "dilated": Case(X, (3, 3, 4, 6), {"padding": 2, "dilation": 2}),
    "strongly dilated": Case(DEEP, (3, 3, 64, 65), {"padding": 6, "dilation": 6}),
    "centre tap alone": Case(DEEP, (3, 3, 64, 64), {"padding": 12, "dilation": 12}),
    "strongly dilated, strided": Case(DEEP, (3, 3, 64, 64), {"padding": 5, "dilation": 6, "stride": 2}),
    "strongly dilated, uneven": Case(DEEP, (3, 2, 64, 64), {"padding": ((7, 3), (0, 6)), "dilation": (6, 5)}),
    "1x1": Case(X, (1, 1, 4, 6)),
    "1x1 strided": Case(X, (1, 1, 4, 6), {"stride": (2, 3)}),
    "1x1 padded": Case(X, (1, 1, 4, 6), {"padding": 1}),
    "1x1 grouped": Case(X, (1, 1, 2, 6), {"groups": 2}),
    "depthwise": Case(X, (3, 3, 1, 4), {"padding": 1, "groups": 4}),
    "depthwise strided": Case(X, (3, 3, 1, 4), {"padding": 1, "groups": 4, "stride": 2}),
    "depthwise dilated": Case(X, (3, 2, 1, 4), {"padding": (3, 1), "groups": 4, "dilation": (2, 3), "stride": (1, 2)}),
    "depthwise, two kernels each": Case(X, (3, 3, 1, 8), {"padding": 1, "groups": 4, "stride": 2}),
    "depthwise, large window": Case((1, 16, 9, 3), (8, 8, 1, 3), {"padding": 4, "groups": 3, "stride": 4}),
    "depthwise, large": Case((2, 20, 21, 3), (3, 3, 1, 3), {"padding": 1, "groups": 3}),
    "grouped": Case(X, (3, 3, 2, 6), {"padding": 1, "groups": 2, "stride": 2}),
    "grouped in blocks": Case((1, 7, 6, 96), (3, 3, 8, 24), {"padding": 1, "groups": 12}),
}
TRANSPOSED = {
    "4x4 stride 2": Case(X, (4, 4, 4, 6), {"stride": 2, "padding": 1}),
    "3x3 stride 2": Case(X, (3, 3, 4, 6), {"stride": 2, "padding": 1, "output_padding": 1}),
    "2x2 stride 2": Case(X, (2, 2, 4, 6), {"stride": 2}),
    "3x3 stride 1": Case(X, (3, 3, 4, 6), {"padding": 1}),
    "gaps": Case(X, (2, 2, 4, 6), {"stride": 3, "output_padding": 2}),
    "cropped deeply": Case(X, (8, 6, 4, 2), {"stride": (4, 2), "padding": (5, 3)}),
    "uneven crop": Case(X, (5, 4, 4, 2), {"stride": (3, 2), "padding": ((2, 0), (1, 2))}),
    "same": Case(X, (4, 3, 4, 2), {"stride": 2, "padding": "SAME"}),
    "grouped": Case(X, (3, 3, 4, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
    "per channel": Case(X, (4, 4, 4, 1), {"stride": 2, "padding": 1, "groups": 4}),
    "dilated": Case(X, (3, 3, 4, 6), {"stride": 2, "dilation": 2, "padding": 1, "output_padding": 1}),
}
# One case for each form of the CPU.
FORMS = [
    (convs.conv, CONVS[n])
    for n in (
        "large map",
        "large map, many channels",
        "large padding",
        "strongly dilated",
        "strided",
        "two strides long",
        "1x1 strided",
        "depthwise strided",
        "grouped",
    )
] + [(convs.conv_transpose, TRANSPOSED[n]) for n in ("3x3 stride 2", "2x2 stride 2", "per channel")]
FORM_IDS = [
    "large map",
    "bands",
    "overhanging",
    "dilated",
    "strided",
    "folded",
    "1x1",
    "depthwise",
    "grouped",
    "T 3x3",
    "T 2x2",
    "T per channel",
]


def arrays(case: Case, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(s), dtype) for s in (case.x, case.kernel)]


def plain_conv(x, kernel, *, stride=1, padding=0, dilation=1, groups=1):
    both = lambda n: n if isinstance(n, tuple) else (n, n)  # noqa: E731
    if not isinstance(padding, str):
        padding = [both(p) for p in both(padding)]
    return lax.conv_general_dilated(
        x,
        kernel,
        both(stride),
        padding,
        rhs_dilation=both(dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def scattered(x, kernel, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """The definition of the transposed convolution, one tap and one pixel at a time."""
    both = lambda n: n if isinstance(n, tuple) else (n, n)  # noqa: E731
    (s, t), (d, e), extra = both(stride), both(dilation), both(output_padding)
    b, h, w, c = x.shape
    kh, kw, _, o = kernel.shape
    if padding == "SAME":
        padding = [((k - z) // 2, k - z - (k - z) // 2) for k, z in zip((kh, kw), (s, t), strict=True)]
    (top, bottom), (left, right) = (both(p) for p in both(padding)) if not isinstance(padding, list) else padding
    y = np.zeros((b, (h - 1) * s + d * (kh - 1) + 1 + extra[0], (w - 1) * t + e * (kw - 1) + 1 + extra[1], groups, o))
    xs = np.asarray(x, np.float64).reshape(b, h, w, groups, c // groups)
    ks = np.asarray(kernel, np.float64).reshape(kh, kw, groups, c // groups, o)
    for i, j, k, m in np.ndindex(h, w, kh, kw):
        y[:, i * s + k * d, j * t + m * e] += np.einsum("bgc,gco->bgo", xs[:, i, j], ks[k, m])
    y = y.reshape(*y.shape[:3], groups * o)
    return y[:, top : y.shape[1] - bottom, left : y.shape[2] - right]


@partial(jax.jit, static_argnums=0)
def both_ways(call, x, kernel):
    """Result and both gradients of a loss that weighs every output differently."""

    def loss(x, kernel):
        y = call(x, kernel)
        weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        return jnp.sum(y.astype(jnp.float32) * weights), y

    (_, y), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(x, kernel)
    return y, *gradients


def assert_close(ours, reference, tolerance=1e-5):
    for mine, theirs in zip(ours, reference, strict=True):
        assert mine.shape == theirs.shape
        theirs = np.asarray(theirs, np.float32)
        np.testing.assert_allclose(np.asarray(mine, np.float32), theirs, atol=tolerance * (np.abs(theirs).max() + 1e-6))


@pytest.mark.parametrize("case", CONVS.values(), ids=CONVS)
def test_conv_equals_the_plain_call_forward_and_backward(case):
    ours = both_ways(partial(convs.conv, **case.options), *arrays(case))
    assert_close(ours, both_ways(partial(plain_conv, **case.options), *arrays(case)))


LOOPED = ["plain", "strided", "dilated", "large map", "large map, many channels"]


@pytest.mark.parametrize("name", LOOPED)
def test_in_a_loop_xla_still_multiplies_matrices(name):
    """Outside of loops XLA rearranges other layouts; inside it sums them pixel by pixel, up to 75 times as long."""
    x, kernel = arrays(CONVS[name])
    step = lambda total, x: (total + sum(a.sum() for a in both_ways(call, x, kernel)), None)  # noqa: E731
    call = partial(convs.conv, **CONVS[name].options)
    loop = jax.jit(lambda x: lax.scan(step, jnp.zeros(()), x)[0])
    layouts = re.findall(r"dim_labels=([\w>-]+)", loop.lower(jnp.stack([x, x])).compile().as_text())
    assert set(layouts) == {"b01f_01io->b01f"}


@pytest.mark.parametrize("case", TRANSPOSED.values(), ids=TRANSPOSED)
def test_transposed_conv_follows_its_definition(case):
    x, kernel = arrays(case)
    y, dx, dk = both_ways(partial(convs.conv_transpose, **case.options), x, kernel)
    assert_close([y], [scattered(x, kernel, **case.options)])
    # It is bilinear, so a gradient is the weights seen through the same map with one argument replaced by a unit.
    weights = np.cos(np.arange(y.size)).reshape(y.shape)
    for at in [(0, 0, 0, 0), (1, 4, 5, 2), (1, 8, 9, 3)]:
        unit = np.zeros(x.shape)
        unit[at] = 1
        np.testing.assert_allclose(dx[at], (scattered(unit, kernel, **case.options) * weights).sum(), atol=1e-4)
    for at in [(0, 0, 0, 0), tuple(n - 1 for n in kernel.shape)]:
        unit = np.zeros(kernel.shape)
        unit[at] = 1
        np.testing.assert_allclose(dk[at], (scattered(x, unit, **case.options) * weights).sum(), atol=1e-4)


@pytest.mark.parametrize(("op", "case"), FORMS, ids=FORM_IDS)
def test_eager_equals_compiled(op, case):
    call = partial(op, **case.options)
    x, kernel = arrays(case)
    y, dx, dk = both_ways(call, x, kernel)
    ours, back = jax.vjp(call, x, kernel)
    weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
    assert_close([ours, *back(weights)], [y, dx, dk])


@pytest.mark.parametrize(("op", "case"), FORMS, ids=FORM_IDS)
def test_vmap_equals_a_loop(op, case):
    call = partial(both_ways, partial(op, **case.options))
    x, kernel = arrays(case)
    xs, kernels = jnp.stack([x, x[::-1]]), jnp.stack([kernel, -2 * kernel])
    over_maps, over_both = jax.vmap(call, (0, None))(xs, kernel), jax.vmap(call)(xs, kernels)
    for i in range(2):
        assert_close([a[i] for a in over_maps], call(xs[i], kernel))
        assert_close([a[i] for a in over_both], call(xs[i], kernels[i]))


@pytest.mark.parametrize(("op", "case"), [*FORMS, (convs.conv, CONVS["many channels"])], ids=[*FORM_IDS, "Winograd"])
def test_bfloat16_stays_and_is_near(op, case):
    call = partial(op, **case.options)
    ours = both_ways(call, *arrays(case, jnp.bfloat16))
    assert {a.dtype for a in ours} == {jnp.bfloat16.dtype}
    exact = both_ways(call, *(a.astype(jnp.float32) for a in arrays(case, jnp.bfloat16)))
    assert_close(ours, exact, 2e-2)


@pytest.mark.parametrize(("op", "case"), FORMS, ids=FORM_IDS)
def test_rematerialised_and_differentiated_twice(op, case):
    call = partial(op, **case.options)
    x, kernel = arrays(case)
    assert_close(both_ways(jax.checkpoint(call), x, kernel), both_ways(call, x, kernel))

    def twice(call):
        once = jax.grad(lambda x, kernel: jnp.sum(call(x, kernel) ** 3), (0, 1))
        return jax.jit(jax.grad(lambda x, k: sum(jnp.sum(g**2) for g in once(x, k)), (0, 1)))(x, kernel)

    if op is convs.conv:
        assert_close(twice(call), twice(partial(plain_conv, **case.options)), 1e-4)
    else:
        # The same map as a plain convolution's gradient for its input.
        y = jax.eval_shape(call, x, kernel)
        o = {k: case.options[k] for k in ("stride", "groups") if k in case.options}
        p, extra = case.options.get("padding", 0), case.options.get("output_padding", 0)
        forward = partial(plain_conv, **o, padding=((p, p - extra), (p, p - extra)))
        other = lambda x, k: jax.linear_transpose(lambda y: forward(y, k.swapaxes(2, 3)), y)(x)[0]  # noqa: E731
        assert_close(twice(call), twice(other), 1e-4)


# Bands go image by image: their batch would have to be gathered.
@pytest.mark.parametrize(
    ("op", "case"), [pytest.param(*f, id=i) for f, i in zip(FORMS, FORM_IDS, strict=True) if i != "bands"]
)
def test_a_batch_spread_over_devices_exchanges_nothing_but_the_kernel_gradient(op, case):
    call = partial(both_ways, partial(op, **case.options))
    x, kernel = arrays(case)
    x = jnp.concatenate([x, -x, 2 * x, x * x], 0)
    mesh = Mesh(np.array(jax.devices()), (DATA_AXIS,))
    rows, whole = NamedSharding(mesh, PartitionSpec(DATA_AXIS)), NamedSharding(mesh, PartitionSpec())

    def loss(x, kernel):
        return jnp.sum(partial(op, **case.options)(x, kernel) ** 2)

    step = jax.jit(jax.grad(loss, (0, 1)), in_shardings=(rows, whole), out_shardings=(rows, whole))
    compiled = step.lower(x, kernel).compile()
    assert not re.search(r"all-gather|all-to-all|collective-permute", compiled.as_text())
    assert_close(
        compiled(jax.device_put(x, rows), jax.device_put(kernel, whole)), jax.grad(loss, (0, 1))(x, kernel), 1e-4
    )
    spec = PartitionSpec(DATA_AXIS)
    forward = lambda x, kernel: partial(op, **case.options)(x, kernel)  # noqa: E731
    mapped = jax.jit(jax.shard_map(forward, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec))
    assert_close([mapped(x, kernel)], [call(x, kernel)[0]])


def test_pmap():
    case = CONVS["1x1"]
    x, kernel = arrays(case)
    xs = jnp.stack([x * i for i in range(1, 5)])
    mine = jax.pmap(partial(both_ways, convs.conv), in_axes=(0, None))(xs, kernel)
    assert_close([a[2] for a in mine], both_ways(convs.conv, xs[2], kernel))


def test_any_batch_exports_for_every_platform():
    (b,) = jax.export.symbolic_shape("b")
    for op, case in FORMS:
        x = jax.ShapeDtypeStruct((b, *case.x[1:]), jnp.float32)
        kernel = jax.ShapeDtypeStruct(case.kernel, jnp.float32)
        call = jax.jit(partial(op, **case.options))
        exported = jax.export.export(call, platforms=("cpu", "cuda"))(x, kernel)
        assert_close([exported.call(*arrays(case))], [call(*arrays(case))])


def pytorch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("name", ["strided", "dilated", "depthwise strided", "grouped"])
def test_conv_equals_torch(name):
    torch = pytorch()
    case = CONVS[name]
    x, kernel = (torch.tensor(np.asarray(a)) for a in arrays(case))
    theirs = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), **case.options)
    assert_close([convs.conv(*arrays(case), **case.options)], [theirs.permute(0, 2, 3, 1).numpy()])


@pytest.mark.parametrize("name", ["3x3 stride 2", "4x4 stride 2", "grouped", "dilated"])
def test_transposed_conv_equals_torch(name):
    torch = pytorch()
    case = TRANSPOSED[name]
    x, kernel = (torch.tensor(np.asarray(a)) for a in arrays(case))
    theirs = torch.nn.functional.conv_transpose2d(x.permute(0, 3, 1, 2), kernel.permute(2, 3, 0, 1), **case.options)
    assert_close([convs.conv_transpose(*arrays(case), **case.options)], [theirs.permute(0, 2, 3, 1).numpy()])


def test_the_lectures_transposed_convolution():
    x = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    kernel = jnp.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    whole = convs.conv_transpose(x, kernel, stride=2)
    assert whole.shape == (1, 5, 5, 1)
    # Copies of the kernel, weighted by the inputs, laid two apart and added where they overlap.
    paper = np.zeros((5, 5))
    for i, j in np.ndindex(2, 2):
        paper[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.asarray(x[0, i, j, 0] * kernel[:, :, 0, 0])
    np.testing.assert_array_equal(whole[0, :, :, 0], paper)
    np.testing.assert_array_equal(convs.conv_transpose(x, kernel, stride=2, padding=1), whole[:, 1:4, 1:4])


def test_the_lectures_bilinear_kernel():
    kernel = convs.bilinear_kernel(3, 1)
    np.testing.assert_array_equal(kernel[:, :, 0, 0], [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]])
    x = jnp.asarray([[1.0, 2.0], [3.0, 5.0]]).reshape(1, 2, 2, 1)
    y = convs.conv_transpose(x, kernel, stride=2, padding=1)
    np.testing.assert_array_equal(y[0, :, :, 0], [[1, 1.5, 2], [2, 2.75, 3.5], [3, 4, 5]])


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_bilinear_kernels_interpolate_between_pixel_centres(factor):
    size = 2 * factor - factor % 2
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 5, 6, 3)), jnp.float32)
    crop = (size - factor) // 2
    dense = convs.conv_transpose(x, convs.bilinear_kernel(size, 3), stride=factor, padding=crop)
    grouped = convs.bilinear_kernel(size, 3, grouped=True)
    assert_close([convs.conv_transpose(x, grouped, stride=factor, padding=crop, groups=3)], [dense])
    reference = jax.image.resize(x, (1, 5 * factor, 6 * factor, 3), "linear")
    inside = (slice(None), slice(factor, -factor), slice(factor, -factor))
    np.testing.assert_allclose(dense[:, : 5 * factor, : 6 * factor][inside], reference[inside], atol=1e-5)


def test_overlap_is_even_when_the_stride_divides_the_window():
    assert np.unique(convs.overlap(6, 4, stride=2)[2:-2, 2:-2]).tolist() == [4]
    uneven = convs.overlap(6, 3, stride=2)[2:-2, 2:-2]
    assert np.unique(uneven).tolist() == [1, 2, 4]
    options = {"stride": 2, "padding": 1, "output_padding": 1}
    counted = convs.conv_transpose(jnp.ones((1, 5, 6, 1)), jnp.ones((3, 3, 1, 1)), **options)
    np.testing.assert_array_equal(convs.overlap((5, 6), 3, **options), counted[0, :, :, 0])


def test_caffe_crop_takes_from_the_offset():
    x = jnp.arange(2 * 6 * 7 * 1.0).reshape(2, 6, 7, 1)
    np.testing.assert_array_equal(convs.caffe_crop(x, (3, 2), (2, 5)), x[:, 2:5, 5:7])
    with pytest.raises(BadInput, match="leaves a map of 6x7"):
        convs.caffe_crop(x, 4, 3)


def test_pixel_shuffle_equals_torch():
    torch = pytorch()
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 18)).astype(np.float32)
    theirs = torch.nn.functional.pixel_shuffle(torch.tensor(x).permute(0, 3, 1, 2), 3).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(convs.pixel_shuffle(jnp.asarray(x), 3), theirs.numpy())
    back = torch.nn.functional.pixel_unshuffle(theirs.permute(0, 3, 1, 2), 3).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(convs.pixel_unshuffle(jnp.asarray(theirs.numpy()), 3), back.numpy())


def test_icnr_starts_with_constant_blocks():
    initialize = convs.icnr(jax.nn.initializers.normal(), 2)
    kernel = initialize(jax.random.key(0), (3, 3, 4, 5 * 4), jnp.float32)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 6, 7, 4)), jnp.float32)
    y = convs.pixel_shuffle(convs.conv(x, kernel, padding=1), 2)
    assert jnp.std(y) > 0.01
    np.testing.assert_array_equal(y, y[:, ::2, ::2].repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x, k: convs.conv(x, k[:, :, :3]), "has 4 channels"),
        (lambda x, k: convs.conv(x, k, groups=5), "5 groups"),
        (lambda x, k: convs.conv(x, k, padding=-1), "0 or more"),
        (lambda x, k: convs.conv(x, k, stride=0), "stride is 0"),
        (lambda x, k: convs.conv(x, k, dilation=5), "does not fit"),
        (lambda x, k: convs.conv(x.astype(jnp.bfloat16), k), "cast one"),
        (lambda x, k: convs.conv_transpose(x, k[:1, :1], padding=5), "leaves nothing"),
        (lambda x, k: convs.conv_transpose(x, k, stride=4, padding="SAME"), "too small for 'SAME'"),
        (lambda x, k: convs.pixel_shuffle(x, 3), "4 channels do not split"),
        (lambda x, k: convs.pixel_unshuffle(x, 3), "does not split into blocks of 3x3"),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(BadInput, match=words):
        call(*arrays(CONVS["plain"]))
