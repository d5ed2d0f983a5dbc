"""What a run tells: a progress bar or plain lines, metrics.jsonl, TensorBoard events, curves and samples."""

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console as Rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxseg.errors import FailedRun
from jaxseg.types import Figure
from jaxseg.viz.curves import FIGURES, figures_text, read_figures

MEASURED = ("seconds", "examples_per_second")
"""Fields of metrics.jsonl that differ between two runs of one recipe: seconds per step, and its examples' rate."""

PLACE = ("kind", "stage", "step", "split")
"""Fields of metrics.jsonl that say where a row belongs."""


class Console:
    """A progress bar on a terminal, plain lines elsewhere, nothing if ``quiet``."""

    def __init__(self, file: Any = None, *, quiet: bool = False):
        self._rich = Rich(file=file or sys.stderr, highlight=False, soft_wrap=True, quiet=quiet)
        self._bar: Progress | None = None

    @property
    def plain(self) -> bool:
        """Whether progress must be told in lines."""
        return not self._rich.is_terminal

    def line(self, text: str) -> None:
        """One line, above the bars if there are any."""
        self._rich.print(text, markup=False)

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """A bar of ``total`` units below those that have begun."""
        if self.plain or self._rich.quiet:
            return
        if self._bar is None:
            text, note = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
            columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
            self._bar = Progress(*columns, console=self._rich, transient=True, refresh_per_second=4)
            self._bar.start()
        self._bar.add_task(title, total=total, completed=done, note="")

    def move(self, done: int, note: str | None = None) -> None:
        """``done`` units of the last bar are done; ``note`` stands beside it until the next."""
        if self._bar is not None:
            last = self._bar.tasks[-1]
            self._bar.update(last.id, completed=done, note=last.fields["note"] if note is None else note)

    def end(self) -> None:
        """Take the last bar away."""
        if self._bar is not None:
            self._bar.remove_task(self._bar.task_ids[-1])
            if not self._bar.task_ids:
                self.close()

    def close(self) -> None:
        """Take all bars away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class MetricsFile:
    """metrics.jsonl and the TensorBoard events made from it.

    Each line of metrics.jsonl is an object with ``kind`` ("train" or "eval"), ``stage`` (its folder, "0-main"),
    ``step`` (updates of that stage so far), ``split`` where something was evaluated, and figures. The events count the
    steps on over all stages.
    """

    def __init__(
        self,
        workdir: Path,
        starts: Mapping[str, int],
        *,
        at: tuple[str, int],
        figures: Mapping[str, Figure] | None = None,
        writes: bool = True,
    ):
        """Open a run's files at a step, as if it had never gone further.

        Args:
          workdir: of the run.
          starts: the stages' folders in order, each with the steps before it.
          at: stage and step; later rows and events are removed.
          figures: how the stage's figures are shown; those of earlier stages stay beside them in ``figures.json``.
          writes: false where another process writes the files.
        """
        self._path = workdir / "metrics.jsonl"
        self._folder = workdir / "tensorboard"
        self._starts = dict(starts)
        self._writes = writes
        last = self._starts[at[0]] + at[1]
        begun = list(self._starts)[: list(self._starts).index(at[0]) + 1]
        self.rows = [row for row in read_rows(self._path) if row["stage"] in begun and self._running(row) <= last]
        if writes:
            replace_text(self._path, "".join(json.dumps(row) + "\n" for row in self.rows))
            if figures:
                described = {
                    **figures,
                    **{k: v for k, v in read_figures(workdir / FIGURES).items() if k not in figures},
                }
                replace_text(workdir / FIGURES, figures_text(described.values()))
            self._file = self._path.open("a")
            self._events = self._open_events()

    def write(
        self, kind: str, stage: str, step: int, figures: Mapping[str, float], *, split: str | None = None
    ) -> None:
        """Append one row; figures that are not finite are left out."""
        numbers = {name: float(value) for name, value in figures.items() if math.isfinite(value)}
        place = {"kind": kind, "stage": stage, "step": step, **({} if split is None else {"split": split})}
        self.rows.append({**place, **numbers})
        if self._writes:
            self._file.write(json.dumps(self.rows[-1]) + "\n")
            self._file.flush()
            self._event(self._events, self.rows[-1])

    def evaluation(self, stage: str, step: int) -> dict[str, float] | None:
        """The figures of the evaluation at a step, None if it was not written."""
        return evaluation(self.rows, stage, step)

    def close(self) -> None:
        """Close the files."""
        if self._writes:
            self._file.close()
            self._events.close()

    def _running(self, row: Mapping[str, Any]) -> int:
        return self._starts[row["stage"]] + row["step"]

    def _open_events(self) -> Any:
        from tensorboardX import SummaryWriter

        for old in self._folder.glob("events.out.tfevents.*"):
            old.unlink()
        events = SummaryWriter(str(self._folder))
        for row in self.rows:
            self._event(events, row)
        return events

    def _event(self, events: Any, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if name not in PLACE:
                events.add_scalar(f"{row.get('split', row['kind'])}/{name}", value, self._running(row))


class PendingMetrics:
    """The metrics of the steps since the last line of the log, left on the device until somebody asks."""

    def __init__(self, fetch: Any, past: list[dict[str, float]]):
        self._fetch = fetch
        self._known = list(past)
        self._waiting: list[tuple[int, Any]] = []

    def add(self, step: int, metrics: Any) -> None:
        """Remember a step's metrics and wait for those of two steps ago, so that the device never starves nor lags."""
        self._waiting.append((step, metrics))
        if len(self._waiting) > 2:
            for leaf in self._waiting[-3][1].values():
                leaf.block_until_ready()

    def fetch(self) -> list[dict[str, float]]:
        """The metrics of every step in the window.

        Raises:
          FailedRun: a loss or a gradient is not finite; the message names the step.
        """
        waiting, self._waiting = self._waiting, []
        for step, metrics in waiting:
            row = {name: float(value) for name, value in self._fetch(metrics).items()}
            for name, value in row.items():
                if not math.isfinite(value):
                    raise FailedRun(f"{name} became {value} at step {step}")
            self._known.append(row)
        return list(self._known)

    def close(self) -> dict[str, float]:
        """Means over the window, but the learning rate of its last step; a new window begins."""
        rows = self.fetch()
        self._known = []
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[-1]} if rows else {}
        return {**means, **{name: rows[-1][name] for name in ("learning_rate",) if rows and name in rows[-1]}}


class Stopwatch:
    """Seconds of training since the last lap, pauses left out."""

    def __init__(self):
        self._begun = time.perf_counter()
        self._spent = 0.0

    def pause(self) -> None:
        """Stop counting until ``go``."""
        self._spent += time.perf_counter() - self._begun

    def go(self) -> None:
        """Count again."""
        self._begun = time.perf_counter()

    def lap(self) -> float:
        """Seconds counted since the last lap."""
        self.pause()
        spent, self._spent = self._spent, 0.0
        self.go()
        return max(spent, 1e-9)


def evaluation(rows: list[dict[str, Any]], stage: str, step: int) -> dict[str, float] | None:
    """The figures of the evaluation at a step of a stage, None if it was not written."""
    for row in reversed(rows):
        if (row["kind"], row["stage"], row["step"]) == ("eval", stage, step):
            return {name: value for name, value in row.items() if name not in PLACE}
    return None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, up to a line that was torn."""
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.with_name(path.name + ".new")
    torn.write_text(text)
    os.replace(torn, path)


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
