"""Panoptic segmentation: give every pixel one segment, an instance of a thing or stuff."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from typing_extensions import override

from jaxseg.errors import BadInput
from jaxseg.losses import softmax_cross_entropy
from jaxseg.metrics import PanopticQuality
from jaxseg.ops.masks import paste_masks, paste_masks_aligned
from jaxseg.ops.panoptic import merge_panoptic
from jaxseg.tasks.instance import Instance
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Term
from jaxseg.tasks.table import for_models
from jaxseg.types import VOID


@for_models("panoptic")
@dataclass(frozen=True)
class Panoptic(Instance):
    """Detect instances and label stuff, with a network that returns both and both are merged.

    The network's ``logits`` have output 0 for all things together, then one for each class of label maps that is no
    thing, in their order.

    Attributes:
      labels: names of the classes of label maps, things among them under their names in ``classes``.
      semantic_weight: factor of the cross-entropy of ``logits`` (0.5 in detectron2 on COCO).
      score_threshold: of instances that are placed.
      overlap: share of an instance that better ones may hold.
      stuff_area: pixels of the least stuff segment.

    >>> task = Panoptic(1, classes=("car",), labels=("road", "car", "sky"))
    >>> task.stuff
    (0, 2)
    """

    labels: tuple[str, ...] = ()
    semantic_weight: float = 0.5
    score_threshold: float = 0.5
    overlap: float = 0.5
    stuff_area: int = 4096

    def __post_init__(self):
        super().__post_init__()
        missing = [name for name in self.classes if name not in self.labels]
        if not self.classes or missing:
            raise BadInput(
                f"panoptic segmentation needs the names of its things and of all labels, things among them; "
                f"labels lack {', '.join(missing) or 'everything, and so do classes'}"
            )

    @classmethod
    @override
    def for_model(cls, model: Any, classes: tuple[str, ...]) -> "Panoptic":
        """Return the task of a model whose labels have these names: things first, then stuff."""
        things = classes[: model.num_things]
        return cls(len(things), classes=things, labels=classes)

    @property
    def stuff(self) -> tuple[int, ...]:
        """Numbers of the labels that are no things."""
        return tuple(i for i, name in enumerate(self.labels) if name not in self.classes)

    @property
    def things(self) -> tuple[int, ...]:
        """Label of each class of objects."""
        return tuple(self.labels.index(name) for name in self.classes)

    @override
    def check_facts(self, facts: Any) -> None:
        """Raise if the data set has other objects or other labels."""
        super().check_facts(facts)
        if tuple(facts.classes) != self.labels:
            raise BadInput(
                f"the task's labels ({len(self.labels)}: {', '.join(self.labels[:3])}, ...) are not the classes of "
                f"data set {facts.name!r} ({len(facts.classes)}: {', '.join(facts.classes[:3])}, ...)"
            )

    @override
    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return the terms of :class:`Instance`, and ``semantic``.

        Raises:
          BadInput: the network has outputs for another number of kinds of stuff.
        """
        if outputs["logits"].shape[-1] != 1 + len(self.stuff):
            raise BadInput(
                f"the network labels {outputs['logits'].shape[-1] - 1} kinds of stuff, the task has {len(self.stuff)}: "
                f"build it with num_stuff={len(self.stuff)}"
            )
        columns = np.full(256, -1, np.int32)
        columns[list(self.things)] = 0
        columns[list(self.stuff)] = 1 + np.arange(len(self.stuff))
        label = jnp.asarray(columns)[jnp.clip(batch["label"], 0, VOID)]
        known = label >= 0
        if "real" in batch:
            known = known & batch["real"][:, None, None]
        values = softmax_cross_entropy(outputs["logits"].astype(jnp.float32), label)
        term = Term(jnp.where(known, values, 0).sum(), known.sum().astype(jnp.float32), self.semantic_weight)
        return {**super().loss(outputs, batch), "semantic": term}

    @override
    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return what :class:`Instance` returns, and ``panoptic``: class and instance number of each pixel."""
        found = super().predict(outputs, batch)
        column = jnp.argmax(outputs["logits"], -1)
        label = jnp.asarray([VOID, *self.stuff], jnp.int32)[column]
        if "size" in batch:
            rows, columns = (jnp.arange(n)[None] for n in label.shape[1:])
            inside = (rows < batch["size"][:, :1])[:, :, None] & (columns < batch["size"][:, 1:])[:, None]
            label = jnp.where(inside, label, VOID)
        paste = paste_masks if self.paste == "torchvision" else paste_masks_aligned

        def one(masks: Array, boxes: Array, scores: Array, classes: Array, valid: Array, label: Array) -> Array:
            return merge_panoptic(
                masks,
                boxes,
                scores,
                classes,
                valid,
                label,
                num_classes=len(self.labels),
                score_threshold=self.score_threshold,
                overlap=self.overlap,
                stuff_area=self.stuff_area,
                paste=paste,
            ).panoptic

        classes = jnp.asarray(self.things, jnp.int32)[found["classes"]]
        maps = jax.vmap(one)(found["masks"], found["boxes"], found["scores"], classes, found["valid"], label)
        return {**found, "panoptic": maps}

    @override
    def metrics(self) -> dict[str, Metric]:
        """Return the panoptic quality beside the average precisions."""
        return {"panoptic": PanopticQuality(self.labels, self.classes), **super().metrics()}
