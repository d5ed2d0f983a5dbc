"""DeconvNet against its layer table in torch functional calls; proposals against torch's own interpolation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models.semantic.deconvnet import (
    DeconvNet,
    crop_box,
    deconvnet_vgg16,
    ensemble_mean,
    ensemble_product,
    paste_box,
    proposal_scores,
)
from tests.oracles.torch_side import F, Reader, assert_agree, random_image, random_variables, to_torch, torch


def reference(r, image, window, blocks):
    """Table by table: BGR minus mean; every layer with BatchNorm and ReLU but the last."""
    mean = torch.tensor([104.00699, 116.66877, 122.67892]).reshape(1, 3, 1, 1)
    height, width = image.shape[1:3]
    least = window * 2 ** len(blocks)
    x = to_torch(image).flip(1) - mean
    x = F.pad(x, (0, max(least - width, 0), 0, max(least - height, 0)))

    def conv(name, x, **options):
        return F.relu(r.norm(f"{name}_norm", r.conv(name, x, **options)))

    def deconv(name, x, **options):
        return F.relu(r.norm(f"{name}_norm", r.transposed(name, x, **options)))

    pools = []
    for block, count in enumerate(blocks, 1):
        for i in range(1, count + 1):
            x = conv(f"conv{block}_{i}", x, padding=1)
        before = x.shape[2:]
        x, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        pools.append((before, indices))
    x = deconv("fc6_deconv", conv("fc7", conv("fc6", x)))
    for block, count in reversed(list(enumerate(blocks, 1))):
        before, indices = pools[block - 1]
        x = F.max_unpool2d(x, indices, 2, output_size=before)
        for i in range(1, count + 1):
            x = deconv(f"deconv{block}_{i}", x, padding=1)
    return r.conv("score", x)[:, :, :height, :width]


@pytest.mark.parametrize(
    ("size", "blocks"), [((64, 96), (2, 2, 3, 3, 3)), ((27, 35), (2, 2, 3)), ((11, 18), (1, 2, 3))]
)
def test_deconvnet_equals_the_layer_table(size, blocks):
    """At the size that fc6 sees as one and at a larger, an odd and a smaller one."""
    model = DeconvNet(5, blocks=blocks, width=4, fc_features=12, window=2)
    image = random_image(*size)
    variables = random_variables(model, image)
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], reference(Reader(variables), image, 2, blocks))


def test_published_shapes():
    """Figure 2's maps at 224x224, and the widths at which the decoder narrows. Nothing is computed."""
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.uint8)
    call = partial(deconvnet_vgg16().init_with_output, capture_intermediates=True)
    shapes = jax.eval_shape(call, jax.random.key(0), image)[1]["intermediates"]
    found = {name: shapes[name]["__call__"][0].shape[1:] for name in ("fc6", "fc7", "fc6_deconv", "score")}
    assert found == {"fc6": (1, 1, 4096), "fc7": (1, 1, 4096), "fc6_deconv": (7, 7, 512), "score": (224, 224, 21)}
    last = {k: shapes[f"deconv{k}_{n}"]["__call__"][0].shape[1:] for k, n in ((5, 3), (4, 3), (3, 3), (2, 2), (1, 2))}
    assert last == {5: (14, 14, 512), 4: (28, 28, 256), 3: (56, 56, 128), 2: (112, 112, 64), 1: (224, 224, 64)}


BOXES = [(3, 2, 17, 12), (0, 0, 20, 15), (5, 14, 6, 15)]


@pytest.mark.parametrize("box", BOXES)
def test_boxes_are_cut_out_and_pasted_as_torch_resizes(box):
    rng = np.random.default_rng(0)
    image, scores = rng.normal(size=(15, 20, 3)).astype(np.float32), rng.normal(size=(8, 8, 4)).astype(np.float32)
    x0, y0, x1, y1 = box
    around = jnp.asarray([x0 + 0.3 * (x1 - x0 > 1), y0, x1 - 0.4 * (x1 - x0 > 1), y1], jnp.float32)  # widens to box
    cut = F.interpolate(to_torch(image[None, y0:y1, x0:x1]), (8, 8), mode="bilinear", align_corners=False)
    assert_agree(crop_box(jnp.asarray(image), around, side=8)[None], cut, 1e-5)
    back = F.interpolate(to_torch(scores[None]), (y1 - y0, x1 - x0), mode="bilinear", align_corners=False)
    whole = F.pad(back, (x0, 20 - x1, y0, 15 - y1))
    assert_agree(paste_box(jnp.asarray(scores), around, size=(15, 20))[None], whole, 1e-5)


def test_boxes_beyond_the_image_are_cut_at_its_edge():
    image = jnp.asarray(np.random.default_rng(0).normal(size=(9, 7, 2)), jnp.float32)
    beyond, within = jnp.asarray([-4.0, 3.0, 30.0, 99.0]), jnp.asarray([0.0, 3.0, 7.0, 9.0])
    np.testing.assert_array_equal(crop_box(image, beyond, side=5), crop_box(image, within, side=5))


def test_scores_of_proposals_are_the_largest_of_their_boxes():
    model = DeconvNet(3, blocks=(1, 1), width=2, fc_features=4, window=2)
    image = random_image(20, 26)[0]
    variables = random_variables(model, image[None])
    boxes = jnp.asarray([[2.0, 1.0, 14.0, 13.0], [6.0, 4.0, 26.0, 20.0], [0.0, 0.0, 26.0, 20.0]])
    call = jax.jit(lambda boxes, valid: proposal_scores(model, variables, image, boxes, valid, side=16))
    found = call(boxes, jnp.asarray([True, True, False]))
    each, apply = [], jax.jit(model.apply)
    for box in boxes[:2]:
        scores = apply(variables, crop_box(image.astype(jnp.float32), box, side=16)[None])["logits"][0]
        each.append(paste_box(scores, box, size=(20, 26)))
    np.testing.assert_allclose(found, np.maximum(*each), rtol=1e-4, atol=1e-4)
    outside = np.ones((20, 26), bool)
    outside[1:13, 2:14] = outside[4:20, 6:26] = False
    assert (np.asarray(found)[outside] == 0).all()
    assert np.asarray(found).min() < 0  # where both boxes score below 0, outside counts for neither
    assert (np.asarray(call(boxes, jnp.zeros(3, bool))) == 0).all()


def test_ensembles():
    deconvnet, fcn = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    a, b = (torch.from_numpy(x).softmax(-1) for x in (deconvnet, fcn))
    np.testing.assert_allclose(ensemble_mean(*map(jnp.asarray, (deconvnet, fcn))), (a + b) / 2, rtol=1e-5)
    product = (torch.from_numpy(deconvnet) * torch.from_numpy(fcn).clamp(min=0)).softmax(-1)
    np.testing.assert_allclose(ensemble_product(*map(jnp.asarray, (deconvnet, fcn))), product, rtol=1e-5)
