"""The page itself: tables and pictures in one HTML file that needs no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jaxseg.files import atomic
from jaxseg.report.pictures import Picture
from jaxseg.types import Figure, figure_of


class Plot(NamedTuple):
    """A drawing with what is said of it.

    >>> Plot("confusion matrix", "rows are true classes", "data:,").title
    'confusion matrix'
    """

    title: str
    text: str
    source: str
    """A ``data:`` address."""


@dataclass(frozen=True)
class Page:
    """What a report shows, in its order.

    Attributes:
      title: of the page.
      conditions: what was measured, by name: the data set, the checkpoint, ...
      metrics: figures by name.
      figures: how they are shown (:func:`jaxseg.tasks.protocol.task_figures`).
      plots: bars, matrix, calibration, curves.
      pictures: of images, in groups.
      ranked_by: what ranks the images.

    >>> Page("unet", {}, {"miou": 0.5}, {}).summary()
    [('miou', '0.5', '', '')]
    """

    title: str
    conditions: Mapping[str, str]
    metrics: Mapping[str, float]
    figures: Mapping[str, Figure]
    plots: Sequence[Plot] = ()
    pictures: Sequence[Picture] = ()
    ranked_by: Figure | None = None
    groups: Mapping[str, str] = field(
        default_factory=lambda: {
            "worst": "The worst images",
            "median": "Images of the middle",
            "best": "The best images",
            "image": "Images",
        }
    )

    def summary(self) -> list[tuple[str, str, str, str]]:
        """Return title, value with its direction, unit and definition of every figure that is not of one class."""
        names = [name for name in self.figures if name in self.metrics]
        names += [name for name in self.metrics if figure_of(self.figures, name).name == name]
        rows = []
        for name in dict.fromkeys(names):
            known = figure_of(self.figures, name)
            better = "" if known.higher_is_better else " (lower is better)"
            rows.append((known.title + better, known.format(self.metrics[name]), known.unit, known.definition))
        return rows

    def by_group(self) -> list[tuple[str, list[tuple[Picture, str]]]]:
        """Return the headings with their pictures and captions."""
        found = []
        for group, heading in self.groups.items():
            rows = [(picture, self._caption(picture)) for picture in self.pictures if picture.group == group]
            found += [(heading, rows)] * bool(rows)
        return found

    def html(self) -> str:
        """Return the page."""
        import jinja2

        source = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
        return environment.from_string(source).render(page=self)

    def write(self, path: Path) -> None:
        """Write the page in one go, replacing an older one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as part:
            part.write_text(self.html(), encoding="utf-8")

    def _caption(self, picture: Picture) -> str:
        if picture.score is None or self.ranked_by is None:
            return f"image {picture.number}"
        value = f"{self.ranked_by.format(picture.score)} {self.ranked_by.unit}".strip()
        return f"image {picture.number}: {self.ranked_by.title} {value}"


def class_rows(metrics: Mapping[str, float], figures: Mapping[str, Figure], order: Sequence[str]) -> dict[str, Any]:
    """Return the figures of each class, ``iou/car``, by the name that describes them: figure and values by class.

    Args:
      metrics: figures by name.
      figures: how they are shown.
      order: of the classes; others follow.

    >>> figures = {"iou": Figure("iou", "IoU", "%")}
    >>> class_rows({"iou/car": 0.5, "iou/sky": 0.9, "miou": 0.7}, figures, ("sky", "car"))["iou"][1]
    {'sky': 0.9, 'car': 0.5}
    """
    groups: dict[str, tuple[Figure, dict[str, float]]] = {}
    for name, value in metrics.items():
        known = figure_of(figures, name)
        if known.name != name:
            groups.setdefault(known.name, (known, {}))[1][name.removeprefix(f"{known.name}/")] = value
    ranks = {name: rank for rank, name in enumerate(order)}
    return {
        name: (known, dict(sorted(values.items(), key=lambda item: ranks.get(item[0], len(ranks)))))
        for name, (known, values) in groups.items()
    }
