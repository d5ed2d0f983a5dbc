"""Layouts of weights in other frameworks and in jaxseg (kernels HWIO, dense layers IO); inflation of RGB kernels."""

import math
from collections.abc import Callable

import numpy as np

from jaxseg.errors import BadInput, suggest

Shape = tuple[int, ...]


def lay_out(array: np.ndarray, shape: Shape, leaf: str, layout: str = "") -> np.ndarray | None:
    """Return an array of another framework in the layout of our leaf, or None where it does not fit.

    >>> lay_out(np.zeros((8, 3, 5, 5)), (5, 5, 3, 8), "kernel").shape
    (5, 5, 3, 8)

    Args:
      array: of the other framework.
      shape: of our leaf.
      leaf: its name; only a "kernel" is laid out anew, everything else keeps its shape unless ``layout`` says how. One
        slope of a PReLU fills the "alpha" of every channel.
      layout: a name of :data:`LAYOUTS`; "" stands for torch's convolutions OIHW and dense layers OI, also for a dense
        layer O(IHW) that is read as a convolution.

    Raises:
      BadInput: there is no such layout.
    """
    if leaf == "alpha" and array.shape == (1,):
        return np.broadcast_to(array, shape)
    if not layout and (leaf != "kernel" or len(shape) not in (2, 4)):
        return array if array.shape == shape else None
    if not layout and len(shape) == 4 and array.ndim == 2:
        layout = "dense"
    forth = _of(layout)[0]
    try:
        found = forth(array, shape)
    except (ValueError, IndexError):  # axes or sizes that do not match
        return None
    return found if found.shape == shape else None


def lay_out_rgb(array: np.ndarray, shape: Shape, leaf: str, layout: str = "") -> np.ndarray | None:
    """Lay out a kernel for RGB and inflate it to the channels of our kernel; None where it is none or does not fit.

    >>> lay_out_rgb(np.ones((8, 3, 5, 5)), (5, 5, 4, 8), "kernel").shape
    (5, 5, 4, 8)
    """
    if leaf != "kernel" or len(shape) != 4 or shape[2] == RGB:
        return None
    found = lay_out(array, (*shape[:2], RGB, shape[3]), leaf, layout)
    return None if found is None or array.ndim != 4 else inflate(found, shape[2])


RGB = 3


def inflate(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Return the kernel of a first convolution over RGB for another number of channels, as timm does it.

    One channel takes the sum over R, G and B, so that a grey image gives what the same image in RGB gives. More
    channels repeat R, G, B, R, ... and are scaled by ``3 / channels``, so that the sum over channels keeps its size.

    Args:
      kernel: h w 3 o.
      channels: c.

    Returns:
      The kernel, h w c o.

    Reference:
      timm, ``adapt_input_conv``.

    >>> inflate(np.arange(3.0).reshape(1, 1, 3, 1), 4).ravel()
    array([0.  , 0.75, 1.5 , 0.  ])
    """
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeated = np.concatenate([kernel] * -(-channels // RGB), axis=2)[:, :, :channels]
    return repeated * np.asarray(RGB / channels, kernel.dtype)


def lay_back(array: np.ndarray, leaf: str, layout: str = "") -> np.ndarray:
    """Return the array in the layout of the other framework: the inverse of ``lay_out``.

    >>> lay_back(np.zeros((5, 5, 3, 8)), "kernel").shape
    (8, 3, 5, 5)
    """
    if not layout and (leaf != "kernel" or array.ndim not in (2, 4)):
        return array
    return np.array(_of(layout)[1](array), order="C")  # a copy: no axis is left turned, however short


def _of(layout: str) -> tuple[Callable[[np.ndarray, Shape], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    if layout not in LAYOUTS:
        raise BadInput(f"no layout of weights is called {layout!r}{suggest(layout, LAYOUTS)}")
    return LAYOUTS[layout]


def _turned(array: np.ndarray) -> np.ndarray:
    return array[:, :, ::-1, ::-1]


def _from_oihw(array: np.ndarray, shape: Shape) -> np.ndarray:
    return array.T if len(shape) == 2 else array.transpose(2, 3, 1, 0)


def _to_oihw(array: np.ndarray) -> np.ndarray:
    return array.T if array.ndim == 2 else array.transpose(3, 2, 0, 1)


def _dense_in(array: np.ndarray, shape: Shape) -> np.ndarray:
    h, w, i, o = shape
    return array.reshape(o, i, h, w).transpose(2, 3, 1, 0)


def _dense_out(array: np.ndarray) -> np.ndarray:
    return _to_oihw(array).reshape(array.shape[3], -1)


def _background_in(array: np.ndarray, shape: Shape) -> np.ndarray:
    first = np.roll(array, 1, axis=0)
    return _dense_in(first, shape) if len(shape) == 4 else first


def _background_out(array: np.ndarray) -> np.ndarray:
    return np.roll(_dense_out(array) if array.ndim == 4 else array, -1, axis=0)


CODE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def _codes_in(array: np.ndarray, shape: Shape) -> np.ndarray:
    weighed = array * np.resize(CODE_WEIGHTS, len(array)).astype(array.dtype).reshape(-1, *[1] * (array.ndim - 1))
    return _dense_in(weighed, shape) if len(shape) == 4 else weighed


def _codes_out(array: np.ndarray) -> np.ndarray:
    plain = _dense_out(array) if array.ndim == 4 else array
    return plain / np.resize(CODE_WEIGHTS, len(plain)).astype(plain.dtype).reshape(-1, *[1] * (plain.ndim - 1))


def _depthwise_in(array: np.ndarray, shape: Shape) -> np.ndarray:
    h, w, _, out = shape
    return array.reshape(h, w, 1, out)


def _sampled(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Every n-th output, of a bias, or of a dense layer O(IHW) every n-th input and tap too, as the shape needs."""
    if len(shape) == 1:
        return array[:: len(array) // shape[0]]
    h, w, i, o = shape
    taps = math.isqrt(array.shape[1] // (array.shape[0] if h == 1 else i))
    every, apart = array.shape[0] // o, max((taps - 1) // max(h - 1, 1), 1)
    whole = array.reshape(array.shape[0], -1, taps, taps)
    return whole[::every, :: whole.shape[1] // i, ::apart, ::apart][:, :, :h, :w].transpose(2, 3, 1, 0)


def _lost(array: np.ndarray) -> np.ndarray:
    raise BadInput(f"an array of {array.shape} was sampled from a larger one, which it does not give back")


def _codes(array: np.ndarray) -> np.ndarray:
    """Box codes y x h w as x y w h, or back, along the first axis."""
    return array.reshape(-1, 4, *array.shape[1:])[:, [1, 0, 3, 2]].reshape(array.shape)


LAYOUTS: dict[str, tuple[Callable[[np.ndarray, Shape], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "": (_from_oihw, _to_oihw),
    "dense": (_dense_in, _dense_out),
    "background last": (_background_in, _background_out),
    "region codes": (_codes_in, _codes_out),
    "iohw": (lambda array, _: array.transpose(2, 3, 0, 1), lambda array: array.transpose(2, 3, 0, 1)),
    "hwio": (lambda array, _: array, lambda array: array),
    "hwoi": (lambda array, _: array.transpose(0, 1, 3, 2), lambda array: array.transpose(0, 1, 3, 2)),
    "hwcm": (_depthwise_in, lambda array: array.transpose(0, 1, 3, 2)),
    "ohwi": (lambda array, _: array.transpose(1, 2, 3, 0), lambda array: array.transpose(3, 0, 1, 2)),
    "sampled": (_sampled, _lost),
    "yxhw": (lambda array, _: _codes(array), lambda array: _codes(array)),
    "ohwi yxhw": (
        lambda array, _: _codes(array).transpose(1, 2, 3, 0),
        lambda array: _codes(array.transpose(3, 0, 1, 2)),
    ),
    "1hwc": (lambda array, _: array.transpose(1, 2, 0, 3), lambda array: array.transpose(2, 0, 1, 3)),
    "11c": (lambda array, shape: array.reshape(shape), lambda array: array.reshape(1, 1, -1)),
    "c11": (lambda array, shape: array.reshape(shape), lambda array: array.reshape(-1, 1, 1)),
    "oihw turned": (lambda array, shape: _from_oihw(_turned(array), shape), lambda array: _turned(_to_oihw(array))),
}
"""By name, how to go from there to ours and back:

- "": OIHW and OI, convolutions (depthwise too) and dense layers of torch and Caffe;
- "dense": O(IHW), a dense layer over a flattened map, read as a convolution with its whole window;
- "background last": "dense" or a bias with background as the last output, which is the first here (detectron2);
- "region codes": "dense" or a bias of box codes that were saved without the weights (10, 10, 5, 5) of regions;
- "iohw": transposed convolutions of torch and Caffe; those of as many inputs as outputs would fit "" too, and be wrong:
  they are never guessed;
- "hwio": Keras' convolutions and dense layers; "hwoi" its transposed, "hwcm" its depthwise ones;
- "ohwi": TFLite's convolutions, transposed ones too; "1hwc" its depthwise ones, "11c" the slopes of its PReLU;
- "sampled": a part of a classifier's dense layer as a smaller, dilated convolution, DeepLab's and SSD's fc6 and fc7;
  nothing leads back;
- "yxhw", "ohwi yxhw": biases and convolutions of TensorFlow that predict box codes in that order, ours x y w h;
- "c11": one number per channel or head, with two axes behind it;
- "oihw turned": convolutions of Theano, turned by half (Keras 1).
"""
