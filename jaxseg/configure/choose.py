"""Decide how to train a model on a data set, each decision with its reason."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxseg import registry
from jaxseg.configure import memory
from jaxseg.configure.look import Look
from jaxseg.conversion.pixels import statistics_of
from jaxseg.errors import BadInput
from jaxseg.layers.standardize import Standardize
from jaxseg.losses.class_weights import median_frequency

IMAGES_SEEN = 12_000
"""Images that a training sees in all, between :data:`EPOCHS` of the data set."""

EPOCHS = (12, 200)
"""Least and most epochs: large data sets need time to be seen, small ones are learnt by heart."""

SIDE = {"cpu": 256, "accelerator": 512}
"""Longest side of a crop."""

BATCH = {"cpu": 8, "accelerator": 16}
"""Most images of an update."""

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


@dataclass(frozen=True)
class Plan:
    """All decisions of a semantic recipe.

    Attributes:
      look: at the data.
      wishes: of the user.
      fields: of the model's builder.
      train: transforms of training images.
      val: transforms of validation images; () leaves them as they are.
      losses: what is minimised.
      rate: the schedule.
      multipliers: of the learning rate; None for none.
      steps: updates.
      batch_size: images per update.
      eval_batch_size: images per batch of an evaluation.
      ema: decay of the weights' average.
      every: updates between evaluations.
      init: where the first weights come from.
      freeze: variables that stay; None for none.

    >>> sorted(Plan.__dataclass_fields__)[:3]
    ['batch_size', 'ema', 'eval_batch_size']
    """

    look: Look
    wishes: Wishes
    fields: dict[str, Decision]
    train: tuple[Decision, ...]
    val: tuple[Decision, ...]
    losses: tuple[Decision, ...]
    rate: Decision
    multipliers: Decision | None
    steps: Decision
    batch_size: Decision
    eval_batch_size: Decision
    ema: Decision
    every: Decision
    init: Decision
    freeze: Decision | None


def choose(look: Look, wishes: Wishes, *, stated: Standardize | None = None, device: str | None = None) -> Plan:
    """Return a plan for training a semantic model on a data set.

    Args:
      look: at the data.
      wishes: what is decided already.
      stated: statistics of pixels that the weights are for, where their source states some.
      device: "cpu" or "accelerator"; None for the one that is here.

    Raises:
      BadInput: there is no such model, it is for another task, or it takes no images of these sizes.

    >>> from jaxseg.data import Facts
    >>> facts = Facts("cells", "", ("background", "cell"), ((0, 0, 0), (255, 0, 0)), {})
    >>> sizes, share = ((64, 64),), (0.9, 0.1)
    >>> cells = Look("cells", (), facts, "train", "val", 30, sizes, sizes, share=share, extent=share)
    >>> plan = choose(cells, Wishes("unet", steps=50, batch_size=4))
    >>> [loss.text for loss in plan.losses], plan.steps.text
    (['CrossEntropy()', 'Dice(1.0)'], '50')
    """
    entry = registry.find(wishes.model)
    if entry.task != "semantic":
        raise BadInput(f"recipes are written for semantic models; {wishes.model!r} is for {entry.task}")
    if look.facts.num_classes < 2:
        raise BadInput(f"data set {look.dataset!r} has {look.facts.num_classes} classes of label maps; two are needed")
    if device is None:
        device = "cpu" if jax.local_devices()[0].platform == "cpu" else "accelerator"
    model = _built(look, wishes)
    fields = _fields(look, wishes, entry, None if stated == statistics_of(model) else stated)
    crop, batch = _crop_and_batch(look, wishes, model, device)
    height, width = (int(side) for side in crop.text.split(", "))
    size = int(batch.text)
    kinds = _kinds(model, look.bands)
    steps = _steps(look, wishes, size)
    count = int(steps.text)
    return Plan(
        look=look,
        wishes=wishes,
        fields=fields,
        train=_augmentation(look, crop, height == width),
        **_evaluation(look, size),
        losses=_losses(look),
        rate=_rate(wishes, size, kinds),
        multipliers=_multipliers(wishes, kinds),
        steps=steps,
        batch_size=batch,
        ema=Decision("0.99" if count < 1000 else "0.995", "evaluated is an average of the weights, which varies less"),
        every=Decision(str(max(count // 10, min(count, 50))), "ten evaluations, at least 50 updates apart"),
        init=_init(wishes),
        freeze=_freeze(wishes, size, kinds),
    )


def _fields(look: Look, wishes: Wishes, entry: Any, stated: Standardize | None) -> dict[str, Decision]:
    names = ", ".join(look.facts.classes[:6]) + (", ..." if look.facts.num_classes > 6 else "")
    found = {"num_classes": Decision(str(look.facts.num_classes), names)}
    if look.bands != 3:
        why = "as the images have" + ("; kernels for RGB are inflated" if wishes.weights else "")
        found["in_channels"] = Decision(str(look.bands), why)
    own = _statistics(look, stated)
    if own is not None:
        found["standardize"] = own
    if wishes.precision == "bf16":
        found["dtype"] = Decision("jnp.bfloat16", "asked for: parameters, statistics and losses stay float32")
    for field in found:
        if field not in entry.fields:
            raise BadInput(f"model {wishes.model!r} has no field {field!r}, which this data set or option needs")
    return found


def _statistics(look: Look, stated: Standardize | None) -> Decision | None:
    if stated is not None and stated.fits(look.bands):
        return Decision(repr(stated), "what the weights were trained with")
    if look.is_rgb:
        return None
    order = ', order="bands"' if look.bands == 3 else ""
    why = f"mean and deviation of each band, measured on {look.looked_at} training images of {look.dtype}"
    return Decision(f"Standardize({look.mean}, {look.std}{order})", why)


def _built(look: Look, wishes: Wishes) -> Any:
    """The model, for its shapes."""
    fields: dict[str, Any] = {"num_classes": look.facts.num_classes}
    if look.bands != 3:
        fields |= {"in_channels": look.bands}
    return registry.create_model(wishes.model, **fields)


def _crop_and_batch(look: Look, wishes: Wishes, model: Any, device: str) -> tuple[Decision, Decision]:
    room = memory.available()
    height, width = wishes.crop or _crop(look, device)
    most = wishes.batch_size or BATCH[device]
    while True:
        _check_size(wishes.model, model, height, width)
        fits = memory.images_that_fit(model, (height, width), look.bands, room)
        if fits >= min(2, most) or wishes.crop or max(height, width) <= 64:
            break
        height, width = max(32, height // 2 // 32 * 32), max(32, width // 2 // 32 * 32)
    size = wishes.batch_size or 2 ** int(math.log2(max(1, min(most, fits, look.images))))
    if size == 1 and wishes.batch_size is None and look.images > 1:
        size = 2
    smallest, largest = look.sizes[0], look.sizes[-1]
    span = f"{smallest[0]}x{smallest[1]}" + (f" to {largest[0]}x{largest[1]}" if largest != smallest else "")
    why = "asked for" if wishes.crop else f"images are {span}; sides are multiples of 32, at most {SIDE[device]}"
    if not wishes.crop and device == "cpu":
        why += " on a CPU"
    of_memory = f"some {fits} would fit into {100 * memory.SHARE:.0f} % of {room / 2**30:.0f} GiB"
    why_batch = "asked for" if wishes.batch_size else f"{of_memory}; at most {most}, and a power of two"
    return Decision(f"{height}, {width}", why), Decision(str(size), why_batch)


def _crop(look: Look, device: str) -> tuple[int, int]:
    """The median image in multiples of 32, at most the longest side; square where up is not up."""
    middle = np.median(np.asarray(look.sizes), axis=0)
    height, width = (int(max(32, min(SIDE[device], side // 32 * 32))) for side in middle.tolist())
    return (height, width) if look.upright else (min(height, width), min(height, width))


def _check_size(name: str, model: Any, height: int, width: int) -> None:
    """Refuse a network whose outputs are smaller than the image: it needs mirrored borders, see unet_isbi.py."""
    if not hasattr(model, "valid_size"):
        return
    try:
        same = model.valid_size(height, width) == (height, width)
    except BadInput:
        same = False
    if not same:
        raise BadInput(
            f"{name!r} gives outputs smaller than its images, which a written recipe does not handle; "
            "see the recipe unet_isbi, or choose another model"
        )


def _kinds(model: Any, bands: int) -> dict[str, Any]:
    """What a network is made of: ``backbone``, and ``batch`` normalisation inside it."""
    side = model.input_size(4, 4) if hasattr(model, "input_size") else (64, 64)
    image = jax.ShapeDtypeStruct((1, *side, bands), np.uint8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    return {
        "backbone": "backbone" in shapes["params"],
        "batch": "backbone" in shapes.get("batch_stats", {}),
    }


def _steps(look: Look, wishes: Wishes, batch: int) -> Decision:
    if wishes.steps is not None:
        return Decision(str(wishes.steps), "asked for")
    epochs = min(EPOCHS[1], max(EPOCHS[0], IMAGES_SEEN / look.images))
    steps = max(10, round(epochs * look.images / batch / 10) * 10)
    return Decision(str(steps), f"{epochs:.0f} epochs of {look.images} images")


def _augmentation(look: Look, crop: Decision, square: bool) -> tuple[Decision, ...]:
    found = []
    if look.mirrored:
        found.append(Decision("RandomFlip()", "left and right may change places: classes lie alike in both halves"))
    found.append(Decision("RandomScale(0.75, 1.5)", "things are nearer or farther"))
    if look.tiny:
        names = ", ".join(look.facts.classes[k] for k in look.tiny)
        why = f"{crop.why}. Every third crop is placed by class, since parts are tiny: {names}"
        found.append(Decision(f"BalancedCrop({crop.text})", why))
    else:
        found.append(Decision(f"RandomCrop({crop.text})", crop.why))
    if not look.upright and square:
        why = "no class lies higher or lower than the others: any of the eight positions is as good"
        found.append(Decision("RandomRotate90()", why))
    if look.is_rgb:
        found.append(Decision("Photometric(0.2, 0.2, 0.2)", "brightness, contrast and saturation vary"))
    return tuple(found)


def _evaluation(look: Look, batch: int) -> dict[str, Any]:
    sizes = np.asarray(look.val_sizes)
    height, width = (int(side) for side in sizes.max(0))
    if height * width > 2**22:
        why = "validation images are large: their middles are judged; predict goes over whole images in tiles"
        return {
            "val": (Decision("CentreCrop(1024, 1024)", why),),
            "eval_batch_size": Decision("1", "large images"),
        }
    if len(sizes) == 1:
        return {"val": (), "eval_batch_size": Decision(str(batch), "all validation images are of one size")}
    if len(sizes) <= 6:
        why = f"validation images have {len(sizes)} sizes: one by one, each size compiled once"
        return {"val": (), "eval_batch_size": Decision("1", why)}
    padded = f"PadTo({-(-height // 32) * 32}, {-(-width // 32) * 32})"
    why = f"validation images have {len(sizes)} sizes: one canvas is compiled once, its border is void"
    return {"val": (Decision(padded, why),), "eval_batch_size": Decision(str(batch), "one canvas")}


def _losses(look: Look) -> tuple[Decision, ...]:
    dice = "overlap per image, which counts a rare class as much as a frequent one"
    if look.facts.num_classes == 2:
        shares = " and ".join(f"{100 * share:.3g} %" for share in look.share)
        return (
            Decision("CrossEntropy()", f"two classes, {shares} of the pixels; Dice makes up for the difference"),
            Decision("Dice(1.0)", dice),
        )
    found = [Decision("CrossEntropy()", "no class is ten times as frequent as another: no weights")]
    if look.lopsided:
        weights = tuple(round(weight, 3) for weight in class_weights(look.share))
        low, high = min(s for s in look.share if s > 0), max(look.share)
        why = (
            f"classes have {100 * low:.2g} % to {100 * high:.2g} % of the pixels: weights are the square root of the "
            "median frequency over each class's, from 0.5 to 3"
        )
        found = [Decision(f"CrossEntropy({weights})", why)]
    if look.tiny:
        found.append(Decision("Dice(0.5)", f"some classes are tiny: {dice}"))
    return tuple(found)


def class_weights(share: tuple[float, ...]) -> tuple[float, ...]:
    """Return mild weights against imbalance: the root of median-frequency weights, between 0.5 and 3; 1 if absent.

    >>> class_weights((0.9, 0.09, 0.01, 0.0))
    (0.5, 1.0, 3.0, 1.0)
    """
    whole = np.asarray(share) * 1e9
    weights = np.sqrt(np.asarray(median_frequency(np.maximum(whole, 0).astype(np.int64))))
    return tuple(float(np.clip(w, 0.5, 3.0)) if w > 0 else 1.0 for w in weights)


def _rate(wishes: Wishes, batch: int, kinds: dict[str, Any]) -> Decision:
    value, why = 1e-3, "AdamW's usual rate for a head that is new"
    if wishes.weights and not kinds["backbone"]:
        value, why = 3e-4, "the weights are trained already"
    value = float(f"{value * (batch / 8) ** 0.5:.2g}")
    return Decision(f"OneCycle({value}, warmup=0.1)", f"{why}, by the square root of the batch over 8")


def _multipliers(wishes: Wishes, kinds: dict[str, Any]) -> Decision | None:
    if wishes.layer_decay is not None:
        if not kinds["backbone"]:
            raise BadInput(f"{wishes.model!r} has no backbone whose layers --layer-decay could tell apart")
        why = "asked for: layers near the image learn more slowly"
        return Decision(f"layer_decay(model, {wishes.layer_decay})", why)
    if not (wishes.weights and kinds["backbone"]):
        return None
    factor, why = (0.3, "a convolutional backbone") if kinds["batch"] else (0.1, "a transformer, which forgets easily")
    return Decision(f'((r"^backbone/", {factor}),)', f"the backbone is trained already ({why}), the head is new")


def _init(wishes: Wishes) -> Decision:
    if not wishes.weights:
        return Decision("None", "random weights: --weights takes a run, a file, hf:, timm:, smp: or torchvision:")
    named = f', "{wishes.model}"' if wishes.weights.startswith(("torchvision:", "detectron2:")) else ""
    quoted = repr(wishes.weights) if set(wishes.weights) & set('"\\') else f'"{wishes.weights}"'
    return Decision(f"WeightsFrom({quoted}{named})", "what does not fit starts afresh, and is printed")


def _freeze(wishes: Wishes, batch: int, kinds: dict[str, Any]) -> Decision | None:
    patterns, why = list(wishes.freeze), "asked for" if wishes.freeze else ""
    if wishes.weights and kinds["batch"] and batch < 4:
        patterns.append(STATISTICS)
        small = f"statistics of {batch} images are noise: the backbone keeps those it came with"
        why = f"{why}; {small}" if why else small
    if not patterns:
        return None
    inside = ", ".join(f'r"{pattern}"' if '"' not in pattern else repr(pattern) for pattern in patterns)
    return Decision(f"({inside},)", why)
