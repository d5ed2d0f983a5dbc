"""The place of a stage: its recipe and number, work directory, devices, data and console."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from jaxseg.train.log import Console
from jaxseg.train.placement import Placement


@dataclass(frozen=True)
class Site:
    """The place of a stage: its recipe and number, work directory, devices, data and console.

    >>> from jaxseg.recipe import find_file, load_file
    >>> from jaxseg.train.placement import single
    >>> recipe = load_file(find_file("unet_scenes"))
    >>> site = Site(recipe, 0, Path("runs"), single(), None, Console(quiet=True))
    >>> site.folder.as_posix(), site.start
    ('runs/stages/0-main', 0)
    """

    recipe: Any
    index: int
    workdir: Path
    placement: Placement
    data_dir: Any
    console: Console

    @property
    def stage(self) -> Any:
        """The stage."""
        return self.recipe.stages[self.index]

    @property
    def labels(self) -> list[str]:
        """The folder names of all stages, ``"0-main"``."""
        return [f"{i}-{stage.name}" for i, stage in enumerate(self.recipe.stages)]

    @property
    def label(self) -> str:
        """The folder name of this stage."""
        return self.labels[self.index]

    @property
    def folder(self) -> Path:
        """The folder of this stage."""
        return self.workdir / "stages" / self.label

    @property
    def start(self) -> int:
        """The number of steps of all stages before this one."""
        return sum(stage.steps for stage in self.recipe.stages[: self.index])

    @property
    def shard(self) -> tuple[int, int]:
        """This process's number and the number of processes."""
        return jax.process_index(), jax.process_count()

    def eval_batches(self, split: str, rows: int, *, limit: int | None = None) -> Any:
        """Return one pass over a split, ``rows`` rows per batch over all processes."""
        rows, shard = -(-rows // self.shard[1]), self.shard
        return self.stage.data.eval_batches(
            batch_size=rows, split=split, data_dir=self.data_dir, shard=shard, limit=limit
        )

    @property
    def eval_rows(self) -> int:
        """Rows per evaluation batch over all processes."""
        return self.stage.eval_batch_size or self.stage.batch_size


@dataclass(frozen=True)
class FinishedStage:
    """A stage that was already trained and evaluated to its end.

    >>> FinishedStage(step=100, metrics={"miou": 0.5}).step
    100
    """

    step: int
    metrics: dict[str, float]
