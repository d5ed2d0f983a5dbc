"""Read statistics of pixels and class names from the files beside third-party weights.

Read are ``preprocessor_config.json`` and ``config.json`` of Hugging Face's transformers, ``config.json`` of timm and of
segmentation-models-pytorch, and the transforms that albumentations saves beside the latter.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import linen as nn

from jaxseg.data.transforms import Resize
from jaxseg.errors import BadInput
from jaxseg.layers.standardize import IMAGENET, UNIT_RANGE, Standardize
from jaxseg.override import fields

TRANSFORMERS, CONFIG, ALBUMENTATIONS = "preprocessor_config.json", "config.json", "albumentations_config_eval.json"

OF_PROGRAMS = {"milesial": UNIT_RANGE}
"""Statistics of programs that feed their networks otherwise than ours are fed by default, by implementation."""

GEOMETRY = {name: (Resize(320, 320),) for name in ("xuebinqin", "xuebinqin-onnx")}
"""What the programs of networks that see images of one size do to an image first, by implementation."""


def read_statistics(path: Path) -> tuple[Standardize, str] | None:
    """Return the statistics of pixels that a folder states and the file that states them; None if none does.

    Raises:
      BadInput: a file is damaged, or states no statistics that can be followed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     text = '{"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "rescale_factor": 0.5}'
    ...     _ = Path(folder, "preprocessor_config.json").write_text(text)
    ...     read_statistics(Path(folder))
    (Standardize(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale=0.5, order='rgb'), 'preprocessor_config.json')
    """
    for name, parse in ((TRANSFORMERS, _transformers), (ALBUMENTATIONS, _albumentations), (CONFIG, _config)):
        form = _json(path / name)
        if form is None:
            continue
        try:
            found = parse(form)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"{path / name} states no statistics of pixels: {' '.join(str(error).split())}") from error
        if found is not None:
            return found, name
    return None


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the class names in a folder's ``config.json`` (``id2label``); () if it has none.

    Raises:
      BadInput: the file is damaged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text('{"id2label": {"1": "sky", "0": "road"}}')
    ...     read_classes(Path(folder))
    ('road', 'sky')
    """
    labels = (_json(path / CONFIG) or {}).get("id2label")
    if not isinstance(labels, Mapping) or {str(k) for k in range(len(labels))} != set(map(str, labels)):
        return ()
    named = {int(key): str(value) for key, value in labels.items()}
    found = tuple(named[k] for k in range(len(named)))
    generic = all(name == f"LABEL_{k}" for k, name in enumerate(found))
    return () if generic or len(set(found)) < len(found) else found


def with_statistics(model: nn.Module, value: Standardize) -> nn.Module:
    """Return the model with other statistics of pixels, wherever in it they are a field.

    >>> from jaxseg.models.semantic.unet import unet
    >>> with_statistics(unet(num_classes=2), Standardize(scale=0.5)).standardize.scale
    0.5
    """
    changes = {}
    for name, inside in _inside(model):
        new = value if isinstance(inside, Standardize) else with_statistics(inside, value)
        if new != inside:
            changes[name] = new
    return model.clone(**changes) if changes else model


def statistics_of(model: nn.Module) -> Standardize | None:
    """Return the statistics of pixels that a model has, those nearest to its top; None if it has none.

    >>> from jaxseg.models.semantic.fcn import fcn32s_vgg16
    >>> statistics_of(fcn32s_vgg16(num_classes=2)).order
    'bgr'
    """
    held = [inside for _, inside in _inside(model)]
    own = [inside for inside in held if isinstance(inside, Standardize)]
    below = [statistics_of(inside) for inside in held if isinstance(inside, nn.Module)]
    return next((found for found in (*own, *below) if found is not None), None)


def spell(value: Standardize) -> str:
    """Return the statistics in words, for a report.

    >>> spell(Standardize((0.5,) * 3, (0.25,) * 3, 1 / 255))
    'mean (0.5, 0.5, 0.5), std (0.25, 0.25, 0.25), pixels times 1/255, rgb'
    """
    scale = "" if value.scale == 1 else f", pixels times 1/{1 / value.scale:.6g}"
    if not value.mean:
        return f"the range of the image's type as 0..1{scale}"
    return f"mean {_numbers(value.mean)}, std {_numbers(value.std)}{scale}, {value.order}"


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)})"


def _inside(model: Any) -> list[tuple[str, Any]]:
    held = [(f.name, getattr(model, f.name)) for f in fields(model)]
    return [(name, value) for name, value in held if isinstance(value, Standardize | nn.Module)]


def _transformers(form: Mapping[str, Any]) -> Standardize:
    """Return an image processor of transformers: ``(x * rescale_factor - image_mean) / image_std``, either part
    optional.
    """
    scale = float(form.get("rescale_factor", 1 / 255)) if form.get("do_rescale", True) else 1.0
    if not form.get("do_normalize", True):
        return Standardize(scale=scale)
    return _made(form.get("image_mean", IMAGENET.mean), form.get("image_std", IMAGENET.std), scale)


def _albumentations(form: Mapping[str, Any]) -> Standardize | None:
    """Return ``Normalize`` of albumentations: ``(x - mean * most) / (std * most)``, most being ``max_pixel_value``."""
    inside = form.get("transform", form)
    name = str(inside.get("__class_fullname__", "")).rpartition(".")[2]
    if name == "Normalize":
        if inside.get("normalization", "standard") != "standard":
            raise ValueError(f"normalization {inside['normalization']!r} depends on each image")
        most = inside.get("max_pixel_value", 255.0)
        return _made(inside["mean"], inside["std"], 1.0 if most is None else 1 / float(most))
    below = (_albumentations(child) for child in inside.get("transforms", ()))
    return next((found for found in below if found is not None), None)


def _config(form: Mapping[str, Any]) -> Standardize | None:
    """Return the parameters of an encoder of segmentation-models-pytorch, or ``pretrained_cfg`` of timm."""
    form = form.get("pretrained_cfg", form)
    if not isinstance(form, Mapping) or form.get("mean") is None or form.get("std") is None:
        return None
    most = float(tuple(form.get("input_range") or (0, 1))[1])
    order = str(form.get("input_space") or "RGB").lower()
    if order not in ("rgb", "bgr"):
        raise ValueError(f"input_space {order!r}")
    return _made(form["mean"], form["std"], most / 255, order)


def _made(mean: Any, std: Any, scale: float, order: str = "rgb") -> Standardize:
    means, stds = tuple(map(float, mean)), tuple(map(float, std))
    if not means or len(means) != len(stds) or not all(value > 0 for value in (*stds, scale)):
        raise ValueError(f"mean {mean}, std {std}, scale {scale}")
    return Standardize(means, stds, scale, order)


def _json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        form = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{file} is damaged ({' '.join(str(error).split())[:120]})") from error
    return form if isinstance(form, dict) else None
