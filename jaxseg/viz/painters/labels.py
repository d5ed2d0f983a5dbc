"""Label maps: a palettised PNG, the image under a film of classes, and the area of each class."""

from typing import Any

import numpy as np
from typing_extensions import override

from jaxseg.viz.labels import label_png, overlay
from jaxseg.viz.painter import Arrays, Painter, Pictures, painter
from jaxseg.viz.palettes import class_colors, class_name
from jaxseg.viz.panels import centred_cut, panel
from jaxseg.viz.visible import visible


@painter("label")
class Labels(Painter):
    """``label``, whose pixels are the classes, ``overlay``, and ``classes``: pixels and fraction of each."""

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        label = predictions["label"]
        return overlay(centred_cut(image, label.shape[:2]), label, class_colors(facts, label))

    @override
    def draw(self, image: np.ndarray, predictions: Arrays, facts: Any) -> Pictures:
        label = predictions["label"]
        png = label_png(label, class_colors(facts, label))
        return {"label": png, "overlay": self.paint(image, predictions, facts)}

    @override
    def compare(self, batch: Arrays, predictions: Arrays, facts: Any) -> np.ndarray:
        truth, label = batch.get("label"), predictions["label"]
        colors = class_colors(facts, label if truth is None else np.concatenate([truth.ravel(), label.ravel()]))
        image = np.stack([visible(pixels) for pixels in batch["image"]])
        names = tuple(class_name(facts.classes, c) for c in range(len(colors)))
        return panel(image, truth, label, colors, classes=names)

    @override
    def describe(self, predictions: Arrays, facts: Any) -> dict[str, Any]:
        label = predictions["label"]
        counts = np.bincount(label.reshape(-1), minlength=max(len(facts.classes), 1))
        rows = [
            {"class": c, "name": class_name(facts.classes, c), "pixels": int(n), "fraction": int(n) / label.size}
            for c, n in enumerate(counts.tolist())
            if n or c < len(facts.classes)
        ]
        return {"classes": rows}

    @override
    def summarize(self, predictions: Arrays, facts: Any) -> str:
        largest = sorted(self.describe(predictions, facts)["classes"], key=lambda row: -row["pixels"])[:3]
        return ", ".join(f"{row['name']} {100 * row['fraction']:.1f} %" for row in largest if row["pixels"])
