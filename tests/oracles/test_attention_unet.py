"""Attention U-Net against its layer table in torch functional calls."""

import jax
import numpy as np

from jaxseg.layers.standardize import IMAGENET
from jaxseg.models.semantic.attention_unet import attention_unet
from tests.oracles.torch_side import F, Reader, assert_agree, random_image, random_variables, to_torch, torch


def pair(r, x, size):
    return r.norm("norm", r.conv("conv", x, padding=size // 2))


def double(r, name, x):
    for i in (1, 2):
        x = F.relu(pair(r[f"{name}_conv{i}"], x, 3))
    return x


def enlarged(x, size):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def gate(r, x, g):
    inner = F.relu(r.conv("theta", x, stride=2) + r.conv("phi", g))
    y = x * enlarged(torch.sigmoid(r.conv("psi", inner)), x.shape[2:])
    return F.relu(pair(r["combine"], pair(r["transform"], y, 1), 1))


def reference(r, x):
    size, skips = x.shape[2:], []
    for level in range(4):
        skips.append(double(r, f"encoder{level}", x))
        x = F.max_pool2d(skips[-1], 2)
    x = double(r, "bottom", x)
    signal, scores = F.relu(pair(r["gating"], x, 1)), {}
    for level in (3, 2, 1, 0):
        skip = gate(r[f"gate{level}"], skips[level], signal) if level else skips[0]
        up = r.transposed(f"decoder{level}_up", x, stride=2, padding=1)
        x = signal = double(r, f"decoder{level}", torch.cat([skip, up], 1))
        scores[level] = enlarged(r.conv(f"score{level}", x), size)
    return r.conv("classifier", torch.cat([scores[level] for level in range(4)], 1))


def test_equals_the_layer_table():
    model = attention_unet(num_classes=3, width=4)
    variables = random_variables(model, random_image(32, 32))
    call = jax.jit(model.apply)
    for h, w in [(48, 64), (37, 51)]:
        image = random_image(h, w)
        padded = np.pad(np.asarray(image), ((0, 0), (0, -h % 16), (0, -w % 16), (0, 0)), mode="edge")
        theirs = reference(Reader(variables), to_torch(IMAGENET(jax.numpy.asarray(padded))))
        assert_agree(call(variables, image)["logits"], theirs[:, :, :h, :w])
