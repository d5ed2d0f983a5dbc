"""The retinal U-Net against its layers in torch, and with its published weights on a photograph."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxseg
from jaxseg.models.semantic.retina_unet import KERAS_NAMES, LUMA, RetinaUNet, prepare
from jaxseg.weights.names import restore
from jaxseg.weights.readers import read
from tests.oracles.torch_side import F, assert_agree, random_image, random_variables, to_torch, torch
from tests.shared_data import weights_or_skip


def reference(state, x):
    """The Keras graph; Theano convolves, so that its kernels are turned by half."""

    def conv(number, x):
        weight, bias = (state[f"convolution2d_{number}.convolution2d_{number}_{leaf}"] for leaf in "Wb")
        weight = torch.from_numpy(weight[:, :, ::-1, ::-1].copy())
        return F.relu(F.conv2d(x, weight, torch.from_numpy(np.array(bias)), padding=weight.shape[2] // 2))

    first = conv(2, conv(1, x))
    second = conv(4, conv(3, F.max_pool2d(first, 2)))
    x = conv(6, conv(5, F.max_pool2d(second, 2)))
    x = conv(8, conv(7, torch.cat([F.interpolate(x, scale_factor=2), second], 1)))
    x = conv(10, conv(9, torch.cat([F.interpolate(x, scale_factor=2), first], 1)))
    return conv(11, x)


def test_it_equals_its_layers():
    model, image = RetinaUNet(width=4, tiles=0), random_image(32, 44)
    variables = random_variables(model, image)
    grey = to_torch(image) * torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    theirs = reference(restore(variables, KERAS_NAMES), grey.sum(1, keepdim=True) / 255)
    assert (theirs == 0).any()
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], theirs)


def test_the_published_weights_find_the_vessels():
    data = pytest.importorskip("skimage.data", reason="the photograph is scikit-image's (extra 'test')")
    path = weights_or_skip("retina_unet_drive") / "test_best_weights.h5"
    pytest.importorskip("h5py", reason="Keras files are read through h5py (extra 'keras')")
    run = jaxseg.import_weights(path, "retina_unet")
    image = np.asarray(Image.fromarray(data.retina()).resize((280, 280), Image.Resampling.BICUBIC))[None]
    logits = jax.jit(run.model.apply)(run.variables, image)["logits"]
    seen = prepare(LUMA(jnp.asarray(image))[..., 0])
    theirs = reference(read(path), torch.from_numpy(np.array(seen))[:, None]).permute(0, 2, 3, 1).numpy()
    # A grey value at the edge between two of the 256 levels may fall to either, once compiled.
    error = np.abs(np.asarray(logits) - theirs)
    assert np.median(error) < 1e-5
    assert np.percentile(error, 99) < 0.05
    vessel = np.asarray(logits[0].argmax(-1))
    assert (vessel == theirs[0].argmax(-1)).mean() > 0.999
    assert 0.05 < vessel.mean() < 0.2
    green = image[0, ..., 1].astype(float)  # vessels are darker than what lies beside them
    inside = green > 40
    assert green[inside & (vessel == 1)].mean() < green[inside & (vessel == 0)].mean() - 5
