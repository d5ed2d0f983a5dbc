"""The patch classifier: its three evaluations agree, and with the layer table in torch, one patch after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.models.semantic import sliding_window as sw
from tests.oracles.torch_side import F, Reader, assert_agree, random_image, random_variables, to_torch, torch

SMALL = sw.PatchClassifier(num_classes=3, kernels=(2, 3), width=6, hidden=5, top=2)


def reference(r, patches):
    """The table: convolution, ReLU, 2x2 pool, four times, then dense layers on the map flattened channel by channel."""
    x = patches
    for i in (1, 2, 3, 4):
        x = F.max_pool2d(F.relu(r.conv(f"conv{i}", x)), 2)
    weight = r.tensor("fc1", "kernel").permute(3, 2, 0, 1).flatten(1)
    x = F.relu(F.linear(x.flatten(1), weight, r.tensor("fc1", "bias")))
    return F.linear(x, r.tensor("fc2", "kernel")[0, 0].T, r.tensor("fc2", "bias"))


def test_equals_the_layer_table_patch_by_patch():
    """N4's own geometry: windows of 95 pixels, mirrored at the border, of a picture smaller than the window."""
    model = sw.patch_classifier(width=8, hidden=12)
    assert (model.window, model.stride) == (95, 16)
    for size in [(49, 52), (51, 70)]:
        image = random_image(*size)
        variables = random_variables(model, image)
        grey = (to_torch(image) * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
        padded = F.pad((grey / 255 - 0.5) / 0.25, (47, 47, 47, 47), mode="reflect")
        ours = jax.jit(model.apply)(variables, image)["logits"]
        places = [(0, 0), (size[0] - 1, size[1] - 1), (17, 30), (30, 3), (5, 48)]
        patches = torch.cat([padded[:, :, i : i + 95, j : j + 95] for i, j in places])
        theirs = reference(Reader(variables), patches)
        rows, columns = zip(*places, strict=True)
        assert_agree(ours[0, jnp.array(rows), jnp.array(columns)][None, :, None], theirs.T[None, :, :, None])


@pytest.mark.parametrize("size", [(9, 16), (1, 3)])
def test_three_evaluations_of_the_same_variables_agree(size):
    image = random_image(*size, batch=2)
    variables = random_variables(SMALL, image)
    dilated = sw.score_dilated(SMALL, variables, image)
    assert dilated.shape == (2, *size, 3)
    scale = np.abs(dilated).max()
    for other in (sw.score_patch_by_patch, sw.score_shift_and_stitch):
        np.testing.assert_allclose(other(SMALL, variables, image), dilated, atol=1e-5 * scale)


def test_every_output_stride_gives_the_dense_scores_at_its_places():
    x = random_image(31, 40).astype(jnp.float32)[..., :1] / 255
    variables = random_variables(SMALL, random_image(8, 8))
    dense = SMALL.apply(variables, x, output_stride=1, method="scores")
    for stride in (2, 4):
        strided = SMALL.apply(variables, x, output_stride=stride, method="scores")
        np.testing.assert_allclose(strided, dense[:, ::stride, ::stride], atol=1e-5 * np.abs(dense).max())


def test_mistakes_are_named():
    variables = random_variables(SMALL, random_image(8, 8))
    x = jnp.zeros((1, 30, 30, 1))
    with pytest.raises(BadInput, match="output stride 3"):
        SMALL.apply(variables, x, output_stride=3, method="scores")
    with pytest.raises(BadInput, match="window of 13 pixels does not fit 12x30"):
        SMALL.apply(variables, x[:, :12], output_stride=1, method="scores")


@pytest.mark.parametrize("size", [(16, 24), (13, 9)])
def test_full_resolution_equals_the_layer_table(size):
    model, image = sw.full_resolution_fcn(num_classes=5, depth=3, width=7), random_image(*size)
    variables = random_variables(model, image)
    r, x = Reader(variables), to_torch(model.standardize(image))
    for i in (1, 2, 3):
        x = F.relu(r.conv(f"conv{i}", x, padding=1))
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], r.conv("classifier", x))
