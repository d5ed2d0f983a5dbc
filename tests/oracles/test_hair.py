"""MediaPipe's hair segmentation against its layers in torch, and with its published weights against their logits."""

import jax
import numpy as np
from PIL import Image

import jaxseg
from jaxseg.models.semantic.hair import HairNet
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
    """The graph of the published file, on the image from 0 to 1 and the mask, NCHW."""
    x = conv(r, "stem2", conv(r, "stem1", x, stride=2), stride=2)
    x, indices1 = down(r["stage1_down"], x)
    skip1 = x
    for i in (1, 2):
        x = block(r[f"stage1_{i}"], x, "separable")
    x, indices2 = down(r["stage2_down"], x)
    skip2 = x
    for i in (1, 2, 3, 4):
        x = block(r[f"stage2_{i}"], x, "separable")
    x, indices3 = down(r["stage3_down"], x, main=False)
    kinds = ("separable", "dilated2", "separable5", "dilated4", "separable", "dilated8")
    for i, kind in enumerate(kinds * 2, 1):
        x = block(r[f"stage3_{i}"], x, kind)
    x = up(r["up1"], block(r["bottom"], x), indices3)
    x = up(r["up2"], block(r["join1"], torch.cat([x, skip2], 1), main=True), indices2)
    x = up(r["up3"], block(r["join2"], torch.cat([x, skip1], 1), main=True), indices1)
    x = block(r["join3"], x)
    x = act(r, "head", r.transposed("head", x, stride=2))
    return r.transposed("classifier", x, stride=2)


def test_it_equals_its_layers():
    model, image = HairNet(), random_image(70, 96)
    mask = np.random.default_rng(3).random(image.shape[:3], np.float32)
    variables = random_variables(model, image)
    ours = jax.jit(model.apply)(variables, image, previous=mask)["logits"]
    x = torch.cat([to_torch(image) / 255, torch.from_numpy(mask)[:, None]], 1)
    x = F.pad(x, (0, 0, 0, 26), mode="replicate")
    assert_agree(ours, reference(Reader(variables), x)[:, :, :70])


def test_the_published_weights_give_their_logits():
    folder = weights_or_skip("mediapipe_hair")
    run = jaxseg.import_weights(folder / "hair_segmentation.tflite", "mediapipe_hair")
    with Image.open(folder / "astronaut.png") as file, np.load(folder / "golden.npz") as golden:
        image, stride = np.asarray(file.convert("RGB"))[None], int(golden["stride"])
        logits, label = golden["logits_strided"].transpose(0, 2, 3, 1), golden["argmax"]
    ours = np.asarray(jax.jit(run.model.apply)(run.variables, image)["logits"])
    error = np.abs(ours[:, ::stride, ::stride] - logits)
    # One near tie of a pooling may fall the other way, which a handful of pixels around it see.
    assert np.percentile(error, 99.9) < 1e-4
    assert error.max() < 0.01
    np.testing.assert_array_equal(ours.argmax(-1), label)
