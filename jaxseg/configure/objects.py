"""Decide how to train a detector on a data set with objects, each decision with its reason."""

import dataclasses
import math
from dataclasses import replace
from typing import Any

import numpy as np

from jaxseg import registry
from jaxseg.configure import decide
from jaxseg.configure.choose import ForObjects, Plan, lighting, scaling
from jaxseg.configure.decide import Decision, Wishes
from jaxseg.configure.look import Look, Objects
from jaxseg.conversion.pixels import statistics_of
from jaxseg.errors import BadInput
from jaxseg.layers.rpn import Proposing
from jaxseg.layers.standardize import Standardize
from jaxseg.weights.published import PUBLISHED

TASKS = {"detection": "Detection", "instance": "Instance"}
"""Tasks of the registry for which recipes with objects are written, and their classes."""

SIDE = {"cpu": 320, "accelerator": 800}
"""Longest side of a canvas."""

BATCH = {"cpu": 4, "accelerator": 16}
"""Most images of an update."""

LEAST = 8
"""Pixels below which objects are not shrunk further: images are cropped instead."""

ANCHORS = (8, 64)
"""Least and greatest side of the smallest anchors, pixels."""

SAMPLES = 128
"""Regions of an image that the heads see in training on a CPU."""


def choose_objects(look: Look, wishes: Wishes, *, stated: Standardize | None = None, device: str | None = None) -> Plan:
    """Return a plan for training a detector on a data set with objects.

    Args:
      look: at the data and their objects.
      wishes: what is decided already.
      stated: statistics of pixels that the weights are for, where their source states some.
      device: "cpu" or "accelerator"; None for the one that is here.

    Raises:
      BadInput: the data have no objects, or no masks for a network that learns them.

    >>> from jaxseg.data import Facts
    >>> sizes, facts = ((240, 320),), Facts("cells", "", (), (), {}, keys=("image", "boxes"), things=("cell",))
    >>> seen = Objects(12, (9.0, 20.0, 40.0), False)
    >>> cells = Look("cells", (), facts, "train", "val", 30, sizes, sizes, objects=seen)
    >>> plan = choose_objects(cells, Wishes("faster_rcnn_mobilenet_v2_fpn", batch_size=2), device="cpu")
    >>> plan.objects.changes["anchor_sizes"].text
    '((8,), (16,), (32,), (64,), (128,))'
    """
    entry = registry.find(wishes.model)
    seen = look.objects
    if entry.task not in TASKS or seen is None or not look.facts.things:
        raise BadInput(f"a recipe for {wishes.model!r} needs data with objects, which {look.dataset!r} has not")
    if entry.task == "instance" and not seen.masks:
        raise BadInput(
            f"the objects of {look.dataset!r} are boxes without masks, which {wishes.model!r} learns; choose a "
            "detector of boxes, such as faster_rcnn_resnet50_fpn (jaxseg list)"
        )
    device = decide.device_of(device)
    bands = {"in_channels": look.bands} if look.bands != 3 else {}
    model = registry.create_model(wishes.model, num_classes=len(look.facts.things), **bands)
    crop, scale, cropped = _canvas(look, wishes, seen, device)
    values = _changes(model, wishes, seen, scale, device)
    changes = {name: Decision(_text(value), why) for name, (value, why) in values.items()}
    changed = model.clone(**{name: value for name, (value, _) in values.items()})
    batch = decide.batch(look, wishes, changed, decide.sides(crop), BATCH[device])
    size = int(batch.text)
    parts = decide.kinds(model, look.bands)
    steps = decide.steps(look, wishes, size)
    count = int(steps.text)
    most = changes["detections"] if "detections" in changes and int(changes["detections"].text) > 100 else None
    keys = ["image", "index", "boxes", "classes", "valid", "area", "size", "original_size"]
    keys += [key for key in ("crowd",) if key in look.facts.keys]
    keys += ["instance_ids"] if entry.task == "instance" else []
    return Plan(
        look=look,
        wishes=wishes,
        fields=decide.fields(
            look, wishes, entry, look.facts.things, None if stated == statistics_of(model) else stated
        ),
        train=_augmentation(look, crop, cropped),
        **_evaluation(look, crop, cropped, size),
        losses=(),
        rate=_rate(wishes, size),
        multipliers=decide.multipliers(wishes, parts),
        steps=steps,
        batch_size=batch,
        ema=decide.average(steps),
        every=Decision(str(max(count // 4, min(count, 100))), "few evaluations: average precision takes long"),
        init=decide.start(wishes),
        freeze=decide.frozen(wishes, size, parts),
        objects=ForObjects(
            changes=changes,
            backbone=_backbone(model, wishes),
            task=TASKS[entry.task],
            max_detections=most and Decision(most.text, "as many count in the average precision"),
            keys=tuple(keys),
            slots=Decision(
                str(_room(seen.most)), f"images have up to {seen.most} objects; of more the largest are kept"
            ),
            best="mask_ap50" if entry.task == "instance" else "box_ap50",
        ),
    )


def _room(most: int) -> int:
    """Return a quarter more than an image was seen to have, in tens."""
    return max(10, math.ceil(most * 1.25 / 10) * 10)


def _canvas(look: Look, wishes: Wishes, seen: Objects, device: str) -> tuple[Decision, float, bool]:
    """Return the canvas, the factor by which images are scaled to it, and whether they are cropped instead."""
    sizes = np.asarray(look.sizes)
    height, width = (float(side) for side in np.median(sizes, axis=0))
    most = SIDE[device]
    factor = min(1.0, most / max(height, width))
    smallest = seen.sides[0]
    if wishes.crop:
        factor = min(wishes.crop[0] / height, wishes.crop[1] / width)
    cropped = factor < 1 and smallest * factor < LEAST
    if cropped:
        factor = 1.0
    if wishes.crop:
        sides, why = wishes.crop, "asked for"
    elif cropped:
        sides = (min(most, _up(height)), min(most, _up(width)))
        why = f"objects of {smallest:g} pixels would be too small in images of {most} pixels: crops at their own scale"
    else:
        sides = (_up(height * factor), _up(width * factor))
        turned = (sizes[:, 0] < sizes[:, 1]).any() and (sizes[:, 0] > sizes[:, 1]).any()
        sides = (max(sides),) * 2 if turned else sides
        why = f"whole images, sides in multiples of 32, at most {most}" + " on a CPU" * (device == "cpu")
    return Decision(f"{sides[0]}, {sides[1]}", why), factor, cropped


def _up(side: float) -> int:
    return max(32, math.ceil(side / 32) * 32)


def _changes(model: Any, wishes: Wishes, seen: Objects, scale: float, device: str) -> dict[str, tuple[Any, str]]:
    """Return fields of the built model: anchors by the objects' sizes, slots by their number, regions by the device."""
    known = {field.name for field in dataclasses.fields(model)}
    found: dict[str, tuple[Any, str]] = {}
    low, middle, high = (max(1.0, side * scale) for side in seen.sides)
    first = int(min(ANCHORS[1], max(ANCHORS[0], 2 ** round(math.log2(low)))))
    why = f"objects have sides of {low:.3g} to {high:.3g} pixels, {middle:.3g} in the middle"
    if wishes.weights not in PUBLISHED.get(wishes.model, {}):  # those of the whole detector know its anchors
        if "anchor_sizes" in known:
            levels, each = len(model.anchor_sizes), len(model.anchor_sizes[0])
            if each == 1:
                sizes = tuple((first * 2**level,) for level in range(levels))
            else:
                sizes = (tuple(first * 2**place for place in range(each)),) * levels
            if sizes != model.anchor_sizes:
                found["anchor_sizes"] = sizes, why
        elif "smallest" in known and first != model.smallest:
            found["smallest"] = first, f"side of the smallest anchors: {why}"
    slots = max(20, _room(seen.most))
    if "detections" in known and (slots > model.detections or device == "cpu") and slots != model.detections:
        found["detections"] = slots, f"images have up to {seen.most} objects"
    if device == "cpu" and {"samples", "train_proposing", "test_proposing"} <= known:
        fewer = "a CPU takes long for more"
        after = max(256, 2 * slots)
        found["samples"] = SAMPLES, f"regions of an image that the head is trained on; {fewer}"
        for name, before, kept in (("train_proposing", 2 * after, after), ("test_proposing", after, after // 2)):
            plain = getattr(model, name)
            made = replace(plain, before=min(plain.before, before), after=min(plain.after, kept))
            if made != plain:
                found[name] = made, f"proposals before and after suppression; {fewer}"
    return found


def _text(value: Any) -> str:
    """Return a value as Python writes it, of proposals what is not the default."""
    if not isinstance(value, Proposing):
        return repr(value)
    plain = Proposing()
    names = [field.name for field in dataclasses.fields(value)][2:]
    extra = [f"{name}={getattr(value, name)!r}" for name in names if getattr(value, name) != getattr(plain, name)]
    return f"Proposing({', '.join([str(value.before), str(value.after), *extra])})"


def _backbone(model: Any, wishes: Wishes) -> Decision | None:
    """Return the change of a backbone whose statistics are frozen and come from nowhere."""
    backbone = getattr(model, "backbone", None)
    if wishes.weights or getattr(backbone, "norm", None) != "frozen":
        return None
    why = "its normalisation learns: frozen statistics are for weights that are trained already"
    return Decision('norm="batch"', why)


def _augmentation(look: Look, crop: Decision, cropped: bool) -> tuple[Decision, ...]:
    height, width = crop.text.split(", ")
    found = []
    if look.mirrored:
        found.append(Decision("RandomFlip()", "left and right may change places"))
    if cropped:
        found.append(scaling(look.upright))
        found.append(Decision(f"RandomCrop({crop.text})", crop.why))
        if not look.upright and height == width:
            why = "no class lies higher or lower than the others: any of the eight positions is as good"
            found.append(Decision("RandomRotate90()", why))
    else:
        why = f"{crop.why}; things are nearer or farther"
        found.append(Decision(f"LargeScaleJitter((0.75, 1.5), ({crop.text}))", why))
    found.append(lighting(look.is_rgb))
    return tuple(found)


def _evaluation(look: Look, crop: Decision, cropped: bool, batch: int) -> dict[str, Any]:
    sides = tuple(int(side) for side in crop.text.split(", "))
    if not cropped:
        fit = Decision(f"ResizeWithin({max(sides)}, {min(sides)})", "validation images at the scale of training")
        turned = ((sides[0], sides[1]), (sides[1], sides[0]))
        there = [(h < w) == (sides[0] < sides[1]) or h == w for h, w in look.val_sizes]
        canvases = turned[:1] if all(there) or sides[0] == sides[1] else turned
        canvas = Decision(f"Canvas({canvases!r})", "what is no image counts for nothing")
        return {"val": (fit, canvas), "eval_batch_size": Decision(str(batch), "as in training")}
    if len(look.val_sizes) == 1:
        return {"val": (), "eval_batch_size": Decision("1", "whole images, larger than crops")}
    height, width = (_up(float(side)) for side in np.asarray(look.val_sizes).max(0))
    why = f"validation images have {len(look.val_sizes)} sizes: one canvas is compiled once"
    return {
        "val": (Decision(f"Canvas((({height}, {width}),))", why),),
        "eval_batch_size": Decision("1", "whole images, larger than crops"),
    }


def _rate(wishes: Wishes, batch: int) -> Decision:
    value, why = (4e-4, "a detector on trained weights") if wishes.weights else (1e-3, "a detector from nothing")
    value = float(f"{value * (batch / 4) ** 0.5:.2g}")
    return Decision(f"OneCycle({value}, warmup=0.1)", f"{why}: AdamW's rate, by the square root of the batch over 4")
