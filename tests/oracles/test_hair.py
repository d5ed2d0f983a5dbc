"""MediaPipe's hair segmentation against its layers in torch, and with its published weights against their logits."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import jaxseg
from jaxseg.models.semantic import hair
from jaxseg.models.semantic.hair import HairNet
from jaxseg.ops.pool import max_pool_with_switches
from tests.oracles.torch_side import F, Reader, assert_agree, random_image, random_variables, to_torch, torch
from tests.shared_data import weights_or_skip


def act(r, name, x):
    return F.prelu(x, r.tensor(f"{name}_act", "alpha"))


def conv(r, name, x, **options):
    return act(r, name, r.conv(name, x, **options))


def middle(r, y, kind):
    if kind.startswith("separable"):
        k = 5 if kind == "separable5" else 3
        y = conv(r, "point", r.conv("depthwise1", y, padding=k // 2, groups=y.shape[1]))
        return conv(r, "depthwise2", y, padding=1, groups=y.shape[1]) if k == 3 else y
    rate = int(kind.removeprefix("dilated") or 1) if kind.startswith("dilated") else 1
    return conv(r, "conv", y, padding=rate, dilation=rate)


def block(r, x, kind="plain", main=False):
    y = r.conv("expand", middle(r, conv(r, "reduce", x), kind))
    return act(r, "sum", y + (r.conv("main", x) if main else x))


def down(r, x, main=True):
    y = r.conv("expand", middle(r, conv(r, "reduce", x, stride=2), "separable"))
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    return act(r, "sum", y + (r.conv("main", pooled) if main else pooled)), indices


def up(r, x, indices):
    y = r.transposed("up", conv(r, "reduce", x), stride=2)[:, :, :-1, :-1]
    y = r.conv("expand", act(r, "up", y))
    return act(r, "sum", y + F.max_unpool2d(r.conv("main", x), indices, 2))


def reference(r, x):
    """The graph of the published file, on the image from 0 to 1 and the mask, NCHW; the logits, and what is pooled."""
    x = conv(r, "stem2", conv(r, "stem1", x, stride=2), stride=2)
    pooled = [x]
    x, indices1 = down(r["stage1_down"], x)
    skip1 = x
    for i in (1, 2):
        x = block(r[f"stage1_{i}"], x, "separable")
    pooled.append(x)
    x, indices2 = down(r["stage2_down"], x)
    skip2 = x
    for i in (1, 2, 3, 4):
        x = block(r[f"stage2_{i}"], x, "separable")
    pooled.append(x)
    x, indices3 = down(r["stage3_down"], x, main=False)
    kinds = ("separable", "dilated2", "separable5", "dilated4", "separable", "dilated8")
    for i, kind in enumerate(kinds * 2, 1):
        x = block(r[f"stage3_{i}"], x, kind)
    x = up(r["up1"], block(r["bottom"], x), indices3)
    x = up(r["up2"], block(r["join1"], torch.cat([x, skip2], 1), main=True), indices2)
    x = up(r["up3"], block(r["join2"], torch.cat([x, skip1], 1), main=True), indices1)
    x = block(r["join3"], x)
    x = act(r, "head", r.transposed("head", x, stride=2))
    return r.transposed("classifier", x, stride=2), pooled


def test_it_equals_its_layers():
    model, image = HairNet(), random_image(70, 96)
    mask = np.random.default_rng(3).random(image.shape[:3], np.float32)
    variables = random_variables(model, image)
    ours = jax.jit(model.apply)(variables, image, previous=mask)["logits"]
    x = torch.cat([to_torch(image) / 255, torch.from_numpy(mask)[:, None]], 1)
    x = F.pad(x, (0, 0, 0, 26), mode="replicate")
    assert_agree(ours, reference(Reader(variables), x)[0][:, :, :70])


def published():
    """The model with its published weights, the portrait, and the golden logits with the labels of every pixel."""
    folder = weights_or_skip("mediapipe_hair")
    run = jaxseg.import_weights(folder / "hair_segmentation.tflite", "mediapipe_hair")
    with Image.open(folder / "astronaut.png") as file, np.load(folder / "golden.npz") as golden:
        image, stride = np.asarray(file.convert("RGB"))[None], int(golden["stride"])
        logits, label = golden["logits_strided"].transpose(0, 2, 3, 1), golden["argmax"]
    return run, image, (logits, stride, label)


ULPS = 4
"""Two cells of a window no further apart than this, in float32, are a tie that rounding decides."""


def near(cells, best):
    return best - cells <= ULPS * np.finfo(np.float32).eps * abs(best)


def windows_of(x):
    """[b y x c] -> [b y/2 x/2 4 c], the cells of each window in reading order."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).swapaxes(2, 3).reshape(b, h // 2, w // 2, 4, c)


def both_ways(run, image, monkeypatch):
    """Logits and the three poolings' switches, as they are, and with ties given to the first of the cells."""

    def apply(variables, image, first):
        switches = []

        def pool(x, window):
            best, where = max_pool_with_switches(x, window)
            tied = jnp.argmax(near(windows_of(x), best[:, :, :, None]), 3).astype(where.dtype)
            switches.append(jnp.where(first, tied, where))
            return best, switches[-1]

        monkeypatch.setattr(hair, "max_pool_with_switches", pool)
        return run.model.apply(variables, image)["logits"], switches

    apply = jax.jit(apply)
    return [jax.device_get(apply(run.variables, image, first)) for first in (False, True)]


def pooled_in_float64(run, image):
    """The three maps that are pooled, NHWC, by the layers in torch in twice the precision."""

    class Double(Reader):
        def __getitem__(self, name):
            return Double(super().__getitem__(name).variables)

        def tensor(self, *leaf):
            return super().tensor(*leaf).double()

    with torch.no_grad():
        x = F.pad(to_torch(image).double() / 255, (0, 0, 0, 0, 0, 1))  # no mask
        return [x.permute(0, 2, 3, 1).numpy() for x in reference(Double(run.variables), x)[1]]


def test_the_published_weights_give_their_logits(monkeypatch):
    run, image, (logits, stride, label) = published()
    (ours, switches), (same, golden) = both_ways(run, image, monkeypatch)
    np.testing.assert_array_equal(ours.argmax(-1), label)
    np.testing.assert_array_equal(same.argmax(-1), label)
    # The golden logits come from float32 too, where equal cells leave the switch at the first.
    assert np.abs(same[:, ::stride, ::stride] - logits).max() < 1e-4
    # Where the two part, float64 finds no more between the cells than float32's rounding.
    exact, parted = pooled_in_float64(run, image), 0
    for x, mine, theirs in zip(exact, switches, golden, strict=True):
        cells, others = windows_of(x), mine != theirs
        picked = [
            np.take_along_axis(cells, w[:, :, :, None].astype(int), 3)[:, :, :, 0][others] for w in (mine, theirs)
        ]
        assert near(np.minimum(*picked), np.maximum(*picked)).all()
        parted += others.sum()
    assert parted <= 8
    unmoved = (ours == same)[:, ::stride, ::stride]
    assert np.abs(ours[:, ::stride, ::stride] - logits)[unmoved].max() < 1e-4
    assert unmoved.mean() > 0.999
