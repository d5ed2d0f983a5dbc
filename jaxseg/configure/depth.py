"""Decide how to train a network on images with depth, each decision with its reason."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from jaxseg import registry
from jaxseg.configure import decide
from jaxseg.configure.choose import ForDepth, Plan, check_size, evaluation, lighting
from jaxseg.configure.decide import Decision, Wishes
from jaxseg.configure.look import Depths, Look
from jaxseg.conversion.pixels import statistics_of
from jaxseg.data.transforms import ResizeWithin
from jaxseg.errors import BadInput
from jaxseg.layers.standardize import Standardize

TASKS = ("depth", "relative_depth")
"""Tasks of the registry whose networks learn depth as they are, in metres."""

SIDE = {"cpu": 256, "accelerator": 640}
"""Longest side of an image."""

BATCH = {"cpu": 8, "accelerator": 16}
"""Most images of an update."""

ZOOM = 1.25
"""How much nearer training images come, at most."""

NETWORK = "network/"
"""Where a network of label maps lies in a model with heads."""


def choose_depth(look: Look, wishes: Wishes, *, stated: Standardize | None = None, device: str | None = None) -> Plan:
    """Return a plan for training a network on a data set with depth.

    Args:
      look: at the data and their depth.
      wishes: what is decided already.
      stated: statistics of pixels that the weights are for, where their source states some.
      device: "cpu" or "accelerator"; None for the one that is here.

    Raises:
      BadInput: the data have no depth, or the network cannot learn metres.

    >>> from jaxseg.data import Facts
    >>> facts = Facts("rooms", "", (), (), {}, keys=("image", "depth", "depth_valid"))
    >>> sizes, seen = ((480, 640),), Depths((0.8, 2.0, 4.0), 0.4, 0.1)
    >>> rooms = Look("rooms", (), facts, "train", "val", 300, sizes, sizes, depth=seen)
    >>> plan = choose_depth(rooms, Wishes("unet", batch_size=8), device="cpu")
    >>> plan.depth.head.text, [transform.text for transform in plan.train][:3]
    ('DepthHead(shift=0.693, scale=0.4)', ['ResizeWithin(256, 192)', 'RandomFlip()', 'RandomZoom(1.0, 1.25)'])
    """
    entry, seen = registry.find(wishes.model), look.depth
    if seen is None:
        raise BadInput(f"data set {look.dataset!r} has no depth, which a recipe for {wishes.model!r} would need")
    device = decide.device_of(device)
    extra = _extra(entry, wishes, seen)
    bands = {"in_channels": look.bands} if look.bands != 3 else {}
    network = registry.create_model(wishes.model, **({"num_classes": 1} if not extra else {}), **bands)
    stated = None if stated == statistics_of(network) else stated
    fields = {**extra, **decide.fields(look, wishes, entry, () if extra else ("the log of depth",), stated)}
    fit, crop = _canvas(look, wishes, device)
    height, width = decide.sides(crop)
    check_size(wishes.model, network, height, width)
    batch = decide.batch(look, wishes, network, (height, width), BATCH[device])
    size, inside = int(batch.text), "" if extra else NETWORK
    parts = decide.kinds(network, look.bands)
    steps = decide.steps(look, wishes, size)
    return Plan(
        look=look,
        wishes=wishes,
        fields=fields,
        train=_augmentation(look, fit, crop),
        **_evaluation(look, fit, size),
        losses=_losses(seen),
        rate=decide.rate(wishes, size, parts),
        multipliers=decide.multipliers(wishes, parts, inside=inside),
        steps=steps,
        batch_size=batch,
        ema=decide.average(steps),
        every=decide.ten_evaluations(steps),
        init=decide.start(wishes, fresh="^head3/" if extra else ""),
        freeze=decide.frozen(wishes, size, parts, inside=inside),
        depth=ForDepth(
            head=None if extra else _head(seen),
            keys=tuple(key for key in ("image", "index", "depth", "depth_valid") if key in ("index", *look.facts.keys)),
        ),
    )


def _extra(entry: Any, wishes: Wishes, seen: Depths) -> dict[str, Decision]:
    """Return fields of a network of depth by which it gives metres; none for networks of label maps."""
    if entry.task == "semantic":
        return {}
    if entry.task not in TASKS or "max_depth" not in entry.fields:
        known = registry.entries().items()
        able = [name for name, other in known if other.task in TASKS and "max_depth" in other.fields]
        raise BadInput(
            f"depth is learnt by every network of label maps (jaxseg list --task semantic) and by {', '.join(able)}; "
            f"{wishes.model!r} is for {entry.task}"
        )
    most = float(f"{1.25 * seen.metres[2]:.2g}")
    why = f"metres of the largest depth that it can give; 99 % of the pixels are below {seen.metres[2]:g}"
    return {"max_depth": Decision(str(most), why)}


def _head(seen: Depths) -> Decision:
    """Return the head whose depth is about the data's median where the network knows nothing yet."""
    shift, scale = float(f"{math.log(seen.metres[1]):.3g}"), max(seen.log_spread, 0.1)
    why = (
        f"depth is the exponential of the network's one channel: 0 is the images' median, {seen.metres[1]:g} m, "
        "and 1 a standard deviation of log depth more, so that the untrained network is about right"
    )
    return Decision(f"DepthHead(shift={shift}, scale={scale})", why)


def _canvas(look: Look, wishes: Wishes, device: str) -> tuple[tuple[ResizeWithin, str] | None, Decision]:
    """Return what brings whole images to the size of training and why, None for nothing, and the crop of that."""
    height, width = (float(side) for side in np.median(np.asarray(look.sizes), axis=0))
    most = SIDE[device]
    if wishes.crop:
        factor = min(1.0, max(wishes.crop[0] / height, wishes.crop[1] / width))
        why = "asked for, and images are brought to it as a whole"
    else:
        factor = min(1.0, most / max(height, width))
        why = f"whole images of {height:g}x{width:g}, at most {most} pixels" + " on a CPU" * (device == "cpu")
    sides = [max(1, round(side * factor)) for side in (height, width)]
    crop = wishes.crop or tuple(side // 32 * 32 or side for side in sides)
    fit = None
    if factor < 1:
        reason = f"{why}, since depth shows in the whole view; depth is picked, not averaged, and stays in metres"
        fit = ResizeWithin(max(sides), min(sides)), reason
    return fit, Decision(f"{crop[0]}, {crop[1]}", why if wishes.crop else "sides in multiples of 32")


def _augmentation(look: Look, fit: tuple[ResizeWithin, str] | None, crop: Decision) -> tuple[Decision, ...]:
    found = [] if fit is None else [_fitted(*fit)]
    if look.mirrored:
        found.append(Decision("RandomFlip()", "left and right may change places, up and down may not"))
    why = "nearer, with depth divided by the same factor: scaled alone, images would be of another focal length"
    found.append(Decision(f"RandomZoom(1.0, {ZOOM})", why))
    found.append(Decision(f"RandomCrop({crop.text})", crop.why))
    found.append(lighting(look.is_rgb))
    return tuple(found)


def _fitted(within: ResizeWithin, why: str) -> Decision:
    return Decision(f"ResizeWithin({within.long}, {within.short})", why)


def _evaluation(look: Look, fit: tuple[ResizeWithin, str] | None, batch: int) -> dict[str, Any]:
    if fit is None:
        return evaluation(look, batch)
    within, _ = fit
    sizes = {within.frame(*size).size for size in look.val_sizes}
    done = evaluation(replace(look, val_sizes=tuple(sorted(sizes))), batch)
    first = _fitted(within, "validation images at the scale of training, where they are measured too")
    return {**done, "val": (first, *done["val"])}


def _losses(seen: Depths) -> tuple[Decision, ...]:
    why = "errors of log depth and of its slopes, half of a common factor forgiven"
    if seen.missing:
        why += f"; {100 * seen.missing:.3g} % of the pixels have no depth and teach nothing"
    return (
        Decision("ScaleInvariant()", why),
        Decision("L1Log()", "ratios of depths, far and near alike; it also keeps the common factor"),
    )
