"""What imported weights of detectors mean: the classes of their outputs, their geometry, how they were run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxseg import viz
from jaxseg.data import Facts, coco_tables
from jaxseg.errors import BadInput
from jaxseg.tasks.detection import NO_CLASS
from jaxseg.tasks.instance import Instance
from jaxseg.tasks.keypoints import Keypoints
from jaxseg.tasks.regions import DETECTRON2_PROPOSAL_LOSS, DETECTRON2_REGION_LOSS
from jaxseg.tasks.table import task_for
from jaxseg.types import Rules
from jaxseg.weights import names

TASKS = ("detection", "instance", "keypoints", "panoptic")
"""Of models whose outputs are objects."""

CONVENTIONS = ("torchvision", "detectron2")

_IDS = dict(zip(coco_tables.THING_IDS, coco_tables.THINGS, strict=True))
_OF_90 = tuple(_IDS.get(number, "N/A") for number in range(1, 91))


def fitting(model: Any, rules: Mapping[str, Rules]) -> dict[str, Rules]:
    """Return the rules whose files hold weights of the model's geometry; all where it has none of its own.

    >>> from jaxseg.models.detection.faster_rcnn import NAMES, on_resnet
    >>> list(fitting(on_resnet(50), NAMES))
    ['torchvision']
    """
    if not hasattr(model, "conventions"):
        return dict(rules)
    return {name: known for name, known in rules.items() if name not in CONVENTIONS or name == model.conventions}


def conventions_of(source: Mapping[str, Any], rules: Mapping[str, Rules]) -> str:
    """Return by the names of a file which program's geometry its weights are for; "" if they do not tell.

    >>> from jaxseg.models.detection.faster_rcnn import NAMES
    >>> conventions_of({"proposal_generator.rpn_head.conv.weight": 0}, NAMES)
    'detectron2'
    """
    known = {name: sum(bool(names.rename(key, rules[name])) for key in source) for name in CONVENTIONS if name in rules}
    return max(known, key=lambda name: known[name]) if len(set(known.values())) > 1 else ""


def outputs_named(model: Any, task: str) -> tuple[str, ...]:
    """Return the names of COCO's classes in the order of a model's outputs, where it has as many; () otherwise.

    Outputs that stand for no class are "N/A" or "__background__", as in torchvision's tables. Those of a panoptic model
    are things, then stuff.

    >>> from jaxseg.models.detection.faster_rcnn import on_resnet
    >>> outputs_named(on_resnet(50), "detection")[10:13]
    ('fire hydrant', 'N/A', 'stop sign')
    """
    things, stuff = coco_tables.THINGS, coco_tables.STUFF
    if task == "panoptic":
        return things + stuff if (model.num_classes, model.num_stuff) == (len(things), len(stuff)) else ()
    known = {80: things, 90: _OF_90, 91: ("__background__", *_OF_90)}
    if task == "keypoints":
        known = {1: things[:1]}
    return known.get(model.num_classes, ())


def outputs_of(model: Any, task: str) -> int:
    """Return the number of classes that a model has outputs for, those of stuff included.

    >>> from jaxseg.models.detection.faster_rcnn import on_resnet
    >>> outputs_of(on_resnet(50, 2), "detection")
    2
    """
    return model.num_classes + (model.num_stuff if task == "panoptic" else 0)


def described(
    model: Any, task: str, outputs: tuple[str, ...], facts: Facts | None, data: str | None
) -> tuple[Any, dict[str, Any]]:
    """Return the task of an imported detector, and what its card says of classes.

    Args:
      model: the linen module.
      task: as it is registered.
      outputs: names of the model's outputs; () where they are not known.
      facts: of the data set whose classes the model has.
      data: its name.

    Raises:
      BadInput: the data set has another number of classes.

    >>> from jaxseg.models.detection.faster_rcnn import on_resnet
    >>> task, card = described(on_resnet(50, 2), "detection", (), None, None)
    >>> task.classes, card["things"]
    (('class 0', 'class 1'), ('class 0', 'class 1'))
    """
    panoptic = task == "panoptic"
    count = outputs_of(model, task)
    named = [name for name in outputs if name not in NO_CLASS]
    if facts is not None:
        theirs = facts.things + tuple(name for name in facts.classes if name not in facts.things) * panoptic
        if len(theirs) not in (count, len(named)):
            raise BadInput(f"{data or facts.name!r} has {len(theirs)} classes of objects, the model {count}")
        outputs = outputs if len(named) == len(theirs) and tuple(named) == theirs else theirs
    if len(outputs) != count:
        outputs = tuple(f"class {k}" for k in range(count))
    made: Any = task_for(task, model, outputs)
    if hasattr(model, "conventions") and model.conventions == "detectron2":
        losses = {"proposal_loss": DETECTRON2_PROPOSAL_LOSS, "region_loss": DETECTRON2_REGION_LOSS}
        masks = {"mask_targets": "binary", "paste": "detectron2"} if isinstance(made, Instance) else {}
        made = dataclasses.replace(made, **losses, **masks)
    card: dict[str, Any] = {"classes": (), "palette": (), "things": made.classes}
    if panoptic:
        coco = outputs == coco_tables.THINGS + coco_tables.STUFF
        card |= {"classes": outputs, "palette": coco_tables.PALETTE if coco else viz.distinct_palette(count)}
    if isinstance(made, Keypoints):
        card["joints"] = made.joints
    return made, card


WITHOUT_EPSILON = ("258fb6c6", "bf2d0c1e", "fc266e95", "eeacb38b")
"""First digits of the hashes of torchvision's files that it runs with frozen BatchNorms of epsilon 0 (COCO_V1 of its
first versions)."""

EPSILON = 1e-5
"""Of our frozen BatchNorms."""


def as_run(variables: dict[str, Any], sha256: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return variables that give with epsilon what the published file gives without, and a note if so.

    >>> layer = {"mean": np.zeros(1), "var": np.ones(1), "scale": np.ones(1), "bias": np.zeros(1)}
    >>> made, note = as_run({"batch_stats": {"norm1": layer}}, "258fb6c6" + 56 * "0")
    >>> float(made["batch_stats"]["norm1"]["var"][0]), len(note)
    (0.99999, 1)
    """
    if not sha256.startswith(WITHOUT_EPSILON):
        return variables, ()
    flat: dict[Any, Any] = traverse_util.flatten_dict(variables)
    frozen = {(*key[:-1], "var") for key in flat if key[0] == "batch_stats" and key[-1] == "scale"}
    flat |= {key: flat[key] - np.asarray(EPSILON, flat[key].dtype) for key in frozen}
    note = (
        f"frozen BatchNorms without epsilon, as torchvision runs this file: {EPSILON} less in {len(frozen)} variances"
    )
    return traverse_util.unflatten_dict(flat), (note,)
