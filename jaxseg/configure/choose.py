"""Decide how to train a model on a data set, each decision with its reason."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxseg import registry
from jaxseg.configure import decide, memory
from jaxseg.configure.decide import Decision, Wishes
from jaxseg.configure.look import Look
from jaxseg.conversion.pixels import statistics_of
from jaxseg.errors import BadInput
from jaxseg.layers.standardize import Standardize
from jaxseg.losses.class_weights import median_frequency

SIDE = {"cpu": 256, "accelerator": 512}
"""Longest side of a crop."""

BATCH = {"cpu": 8, "accelerator": 16}
"""Most images of an update."""


@dataclass(frozen=True)
class Plan:
    """All decisions of a recipe.

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
      objects: what is decided for detectors besides; None for others.
      depth: what is decided for networks of depth besides; None for others.

    >>> sorted(Plan.__dataclass_fields__)[:3]
    ['batch_size', 'depth', 'ema']
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
    objects: "ForObjects | None" = None
    depth: "ForDepth | None" = None


@dataclass(frozen=True)
class ForObjects:
    """Decisions of a recipe for detectors, besides those of all recipes.

    Attributes:
      changes: fields of the built model, such as anchors.
      backbone: what its backbone is changed to; None for nothing.
      task: the task's name.
      max_detections: that count in an evaluation; None for the task's own.
      keys: of a batch.
      slots: objects of an image.
      best: the figure by which the best checkpoint is chosen.

    >>> ForObjects({}, None, "Detection", None, ("image",), Decision("8", ""), "box_ap50").task
    'Detection'
    """

    changes: dict[str, Decision]
    backbone: Decision | None
    task: str
    max_detections: Decision | None
    keys: tuple[str, ...]
    slots: Decision
    best: str


@dataclass(frozen=True)
class ForDepth:
    """Decisions of a recipe for depth, besides those of all recipes.

    Attributes:
      head: which reads a network of label maps as depth; None for networks of depth.
      keys: of a batch.

    >>> ForDepth(None, ("image", "depth")).keys
    ('image', 'depth')
    """

    head: Decision | None
    keys: tuple[str, ...]


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
        raise BadInput(
            f"recipes are written for models of label maps and of objects (detection, instance), and for depth; "
            f"{wishes.model!r} is for {entry.task}"
        )
    if look.facts.num_classes < 2:
        raise BadInput(f"data set {look.dataset!r} has {look.facts.num_classes} classes of label maps; two are needed")
    device = decide.device_of(device)
    model = _built(look, wishes)
    fields = decide.fields(look, wishes, entry, look.facts.classes, None if stated == statistics_of(model) else stated)
    crop, batch = _crop_and_batch(look, wishes, model, device)
    height, width = decide.sides(crop)
    size = int(batch.text)
    parts = decide.kinds(model, look.bands)
    steps = decide.steps(look, wishes, size)
    return Plan(
        look=look,
        wishes=wishes,
        fields=fields,
        train=_augmentation(look, crop, height == width),
        **evaluation(look, size),
        losses=_losses(look),
        rate=decide.rate(wishes, size, parts),
        multipliers=decide.multipliers(wishes, parts),
        steps=steps,
        batch_size=batch,
        ema=decide.average(steps),
        every=decide.ten_evaluations(steps),
        init=decide.start(wishes),
        freeze=decide.frozen(wishes, size, parts),
    )


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
        check_size(wishes.model, model, height, width)
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


def check_size(name: str, model: Any, height: int, width: int) -> None:
    """Refuse a network whose outputs are smaller than the image: it needs mirrored borders, see unet_isbi.py.

    Raises:
      BadInput: so it is.

    >>> check_size("unet", registry.create_model("unet", num_classes=2), 32, 32)
    """
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


def _augmentation(look: Look, crop: Decision, square: bool) -> tuple[Decision, ...]:
    found = []
    if look.mirrored:
        found.append(Decision("RandomFlip()", "left and right may change places: classes lie alike in both halves"))
    found.append(scaling(look.upright))
    if look.tiny:
        names = ", ".join(look.facts.classes[k] for k in look.tiny)
        why = f"{crop.why}. Every third crop is placed by class, since parts are tiny: {names}"
        found.append(Decision(f"BalancedCrop({crop.text})", why))
    else:
        found.append(Decision(f"RandomCrop({crop.text})", crop.why))
    if not look.upright and square:
        why = "no class lies higher or lower than the others: any of the eight positions is as good"
        found.append(Decision("RandomRotate90()", why))
    found.append(lighting(look.is_rgb))
    return tuple(found)


def scaling(upright: bool) -> Decision:
    """Return how much larger or smaller images become, by whether they have a side that is up.

    >>> scaling(False).text
    'RandomScale(0.9, 1.1)'
    """
    if upright:
        return Decision("RandomScale(0.75, 1.5)", "things are nearer or farther")
    return Decision("RandomScale(0.9, 1.1)", "where no side is up, seen from above, an instrument has one scale")


def lighting(is_rgb: bool) -> Decision:
    """Return how light changes, and colours if there are any.

    >>> lighting(False).text
    'Photometric(0.2, 0.2)'
    """
    if is_rgb:
        return Decision("Photometric(0.2, 0.2, 0.2)", "brightness, contrast and saturation vary")
    return Decision("Photometric(0.2, 0.2)", "brightness and contrast vary")


def evaluation(look: Look, batch: int) -> dict[str, Any]:
    """Return transforms and batch of the validation images, by their sizes, as fields of a plan.

    >>> from jaxseg.data import Facts
    >>> look = Look("a", (), Facts("a", "", (), (), {}), "train", "val", 100, ((4, 6),), ((4, 6),))
    >>> evaluation(look, 8)["eval_batch_size"].text
    '8'
    """
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
