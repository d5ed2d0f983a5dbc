"""Decisions that do not depend on the task: statistics of pixels, steps, learning rates, first weights, freezing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxseg.configure import memory
from jaxseg.configure.look import Look
from jaxseg.errors import BadInput
from jaxseg.layers.standardize import Standardize

IMAGES_SEEN = 12_000
"""Images that a training sees in all, between :data:`EPOCHS` of the data set."""

EPOCHS = (12, 200)
"""Least and most epochs: large data sets need time to be seen, small ones are learnt by heart."""

STATISTICS = r"^backbone/.*/(mean|var)$"
"""Running statistics of a backbone's batch normalisation, as ``Stage.freeze`` names them."""


@dataclass(frozen=True)
class Wishes:
    """What the user has decided; None leaves it to :func:`choose`.

    >>> Wishes("unet_resnet34", weights="timm:resnet34.a1_in1k").steps is None
    True

    Attributes:
      model: of the registry.
      weights: a source, "" for random weights.
      freeze: as of :class:`jaxseg.recipe.Stage`.
      layer_decay: factor of the learning rate from a layer of the backbone to the one before it.
      patience: as of :class:`jaxseg.recipe.Stage`.
      precision: "float32" or "bf16".
      steps: updates.
      batch_size: images per update.
      crop: height and width.
    """

    model: str
    weights: str = ""
    freeze: tuple[str, ...] = ()
    layer_decay: float | None = None
    patience: int | None = None
    precision: str = "float32"
    steps: int | None = None
    batch_size: int | None = None
    crop: tuple[int, int] | None = None


@dataclass(frozen=True)
class Decision:
    """A value, as Python text, and why it is that.

    >>> Decision("8", "what fits").text
    '8'
    """

    text: str
    why: str


def statistics(look: Look, stated: Standardize | None) -> Decision | None:
    """Return the statistics of pixels that the model is given; None for its own.

    Args:
      look: at the data.
      stated: those that the weights are for, None where their source states none.

    >>> from jaxseg.data import Facts
    >>> grey = Look("a", (), Facts("a", "", (), (), {}), "", "", 9, ((4, 6),), ((4, 6),), mean=(9.0,), std=(2.0,))
    >>> statistics(grey, None).text
    'Standardize((9.0,), (2.0,))'
    """
    if stated is not None and stated.fits(look.bands):
        return Decision(repr(stated), "what the weights were trained with")
    if look.is_rgb:
        return None
    order = ', order="bands"' if look.bands == 3 else ""
    why = f"mean and deviation of each band, measured on {look.looked_at} training images of {look.dtype}"
    return Decision(f"Standardize({look.mean}, {look.std}{order})", why)


def fields(
    look: Look, wishes: Wishes, entry: Any, classes: Sequence[str], stated: Standardize | None
) -> dict[str, Decision]:
    """Return fields of the model's builder: number of classes, bands, statistics of pixels, precision.

    Args:
      look: at the data.
      wishes: of the user.
      entry: of the registry.
      classes: names of those that the model tells apart; () for models that have none.
      stated: statistics of pixels that the weights state, other than the model's own.

    Raises:
      BadInput: the model has no such field.

    >>> from jaxseg import registry
    >>> from jaxseg.data import Facts
    >>> look = Look("a", (), Facts("a", "", (), (), {}), "", "", 9, ((4, 6),), ((4, 6),))
    >>> found = fields(look, Wishes("unet"), registry.find("unet"), ("sky", "road"), None)
    >>> {name: decision.text for name, decision in found.items()}
    {'num_classes': '2'}
    """
    names = ", ".join(classes[:6]) + (", ..." if len(classes) > 6 else "")
    found = {"num_classes": Decision(str(len(classes)), names)} if classes else {}
    if look.bands != 3:
        why = "as the images have" + ("; kernels for RGB are inflated" if wishes.weights else "")
        found["in_channels"] = Decision(str(look.bands), why)
    own = statistics(look, stated)
    if own is not None:
        found["standardize"] = own
    if wishes.precision == "bf16":
        found["dtype"] = Decision("jnp.bfloat16", "asked for: parameters, statistics and losses stay float32")
    for field in found:
        if field not in entry.fields:
            raise BadInput(f"model {wishes.model!r} has no field {field!r}, which this data set or option needs")
    return found


def kinds(model: Any, bands: int) -> dict[str, Any]:
    """Return what a network is made of: ``backbone``, and ``batch`` normalisation inside it.

    >>> from jaxseg.registry import create_small
    >>> kinds(create_small("fpn_resnet50"), 3)
    {'backbone': True, 'batch': True}
    """
    side = model.input_size(4, 4) if hasattr(model, "input_size") else (64, 64)
    image = jax.ShapeDtypeStruct((1, *side, bands), np.uint8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    return {
        "backbone": "backbone" in shapes["params"],
        "batch": "backbone" in shapes.get("batch_stats", {}),
    }


def device_of(asked: str | None) -> str:
    """Return "cpu" or "accelerator": what was asked for, or what is here.

    >>> device_of("accelerator")
    'accelerator'
    """
    return asked or ("cpu" if jax.local_devices()[0].platform == "cpu" else "accelerator")


def sides(crop: Decision) -> tuple[int, int]:
    """Return height and width of a crop.

    >>> sides(Decision("192, 256", "asked for"))
    (192, 256)
    """
    height, width = (int(side) for side in crop.text.split(", "))
    return height, width


def average(steps: Decision) -> Decision:
    """Return the decay of the moving average of the weights.

    >>> average(Decision("500", "asked for")).text
    '0.99'
    """
    decay = "0.99" if int(steps.text) < 1000 else "0.995"
    return Decision(decay, "evaluated is an average of the weights, which varies less")


def ten_evaluations(steps: Decision) -> Decision:
    """Return the updates between evaluations, of tasks whose figures take little time.

    >>> ten_evaluations(Decision("900", "asked for")).text
    '90'
    """
    count = int(steps.text)
    return Decision(str(max(count // 10, min(count, 50))), "ten evaluations, at least 50 updates apart")


def batch(look: Look, wishes: Wishes, model: Any, size: tuple[int, int], most: int) -> Decision:
    """Return the number of images of an update, by the memory.

    Args:
      look: at the data.
      wishes: of the user.
      model: for its maps.
      size: height and width of its images.
      most: images that are enough.

    >>> from jaxseg.data import Facts
    >>> look = Look("a", (), Facts("a", "", (), (), {}), "train", "val", 100, ((4, 6),), ((4, 6),))
    >>> batch(look, Wishes("unet", batch_size=3), None, (4, 6), 8).text
    '3'
    """
    if wishes.batch_size:
        return Decision(str(wishes.batch_size), "asked for")
    room = memory.available()
    fits = memory.images_that_fit(model, size, look.bands, room)
    count = 2 ** int(math.log2(max(1, min(most, fits, look.images))))
    of_memory = f"some {fits} would fit into {100 * memory.SHARE:.0f} % of {room / 2**30:.0f} GiB"
    return Decision(str(count), f"{of_memory}; at most {most}, and a power of two")


def steps(look: Look, wishes: Wishes, batch: int) -> Decision:
    """Return the number of updates.

    >>> from jaxseg.data import Facts
    >>> look = Look("a", (), Facts("a", "", (), (), {}), "train", "val", 100, ((4, 6),), ((4, 6),))
    >>> steps(look, Wishes("unet"), 8).text
    '1500'
    """
    if wishes.steps is not None:
        return Decision(str(wishes.steps), "asked for")
    epochs = min(EPOCHS[1], max(EPOCHS[0], IMAGES_SEEN / look.images))
    count = max(10, round(epochs * look.images / batch / 10) * 10)
    return Decision(str(count), f"{epochs:.0f} epochs of {look.images} images")


def rate(wishes: Wishes, batch: int, parts: dict[str, Any]) -> Decision:
    """Return the schedule of the learning rate.

    >>> rate(Wishes("unet"), 8, {"backbone": False}).text
    'OneCycle(0.001, warmup=0.1)'
    """
    value, why = 1e-3, "AdamW's usual rate for a head that is new"
    if wishes.weights and not parts["backbone"]:
        value, why = 3e-4, "the weights are trained already"
    value = float(f"{value * (batch / 8) ** 0.5:.2g}")
    return Decision(f"OneCycle({value}, warmup=0.1)", f"{why}, by the square root of the batch over 8")


def multipliers(wishes: Wishes, parts: dict[str, Any], *, inside: str = "") -> Decision | None:
    """Return what the learning rate of the backbone is multiplied with, None for nothing.

    Args:
      wishes: of the user.
      parts: of the network, see :func:`kinds`.
      inside: where the network lies in the model that is trained: "network/".

    >>> multipliers(Wishes("unet_resnet34", "runs/a"), {"backbone": True, "batch": True}).text
    '((r"^backbone/", 0.3),)'

    Raises:
      BadInput: a factor from layer to layer is asked for, and there is no backbone.
    """
    if wishes.layer_decay is not None:
        if not parts["backbone"]:
            raise BadInput(f"{wishes.model!r} has no backbone whose layers --layer-decay could tell apart")
        why = "asked for: layers near the image learn more slowly"
        part = f', part="{inside}backbone"' if inside else ""
        return Decision(f"layer_decay(model, {wishes.layer_decay}{part})", why)
    if not (wishes.weights and parts["backbone"]):
        return None
    factor, why = (0.3, "a convolutional backbone") if parts["batch"] else (0.1, "a transformer, which forgets easily")
    slower = f'((r"^{inside}backbone/", {factor}),)'
    return Decision(slower, f"the backbone is trained already ({why}), the head is new")


def start(wishes: Wishes, *, fresh: str = "") -> Decision:
    """Return where the first weights come from.

    Args:
      wishes: of the user.
      fresh: regular expression of variables that start afresh in any case; "" for none.

    >>> start(Wishes("unet", "runs/a")).text
    'WeightsFrom("runs/a")'
    """
    if not wishes.weights:
        return Decision("None", "random weights: --weights takes a run, a file, hf:, timm:, smp: or torchvision:")
    named = f', "{wishes.model}"' if wishes.weights.startswith(("torchvision:", "detectron2:")) else ""
    quoted = repr(wishes.weights) if set(wishes.weights) & set('"\\') else f'"{wishes.weights}"'
    why, but = "what does not fit starts afresh, and is printed", ""
    if fresh:
        but = f', fresh=(r"{fresh}",)'
        why += "; so does the last layer, which gave inverse depth: leave that out for weights that give metres"
    return Decision(f"WeightsFrom({quoted}{named}{but})", why)


def frozen(wishes: Wishes, batch: int, parts: dict[str, Any], *, inside: str = "") -> Decision | None:
    """Return the variables that stay as they are, None for none.

    Args:
      wishes: of the user, whose patterns name the network's own variables.
      batch: images of an update.
      parts: of the network, see :func:`kinds`.
      inside: where the network lies in the model that is trained: "network/".

    >>> frozen(Wishes("unet", freeze=("^backbone/",)), 8, {"batch": False}).text
    '(r"^backbone/",)'
    """
    patterns, why = list(wishes.freeze), "asked for" if wishes.freeze else ""
    if wishes.weights and parts["batch"] and batch < 4:
        patterns.append(STATISTICS)
        small = f"statistics of {batch} images are noise: the backbone keeps those it came with"
        why = f"{why}; {small}" if why else small
    if not patterns:
        return None
    placed = [f"^{inside}{each[1:]}" if each.startswith("^") else each for each in patterns]
    spelled = ", ".join(f'r"{pattern}"' if '"' not in pattern else repr(pattern) for pattern in placed)
    return Decision(f"({spelled},)", why)
