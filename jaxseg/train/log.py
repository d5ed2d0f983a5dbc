"""Training logs: progress bar or plain lines, metrics.jsonl and figures.json, TensorBoard events."""

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console as Rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxseg.errors import FailedRun
from jaxseg.files import atomic
from jaxseg.types import Figure
from jaxseg.viz.curves import FIGURES, figures_text, read_figures

MEASURED = ("seconds", "examples_per_second")
"""Fields of metrics.jsonl that differ between two runs of one recipe: seconds per step, and its examples' rate."""

PLACE = ("kind", "stage", "step", "split")
"""Fields of metrics.jsonl that say where a row belongs."""


class Console:
    """Show a progress bar on a terminal, plain lines elsewhere, nothing if ``quiet``.

    >>> console = Console(quiet=True)
    >>> console.line("not shown")
    >>> console.close()
    """

    def __init__(self, file: Any = None, *, quiet: bool = False):
        self._rich = Rich(file=file or sys.stderr, highlight=False, soft_wrap=True, quiet=quiet)
        self._bar: Progress | None = None

    @property
    def plain(self) -> bool:
        """True if progress must be printed as lines."""
        return not self._rich.is_terminal

    def line(self, text: str) -> None:
        """Print one line, above any bars."""
        self._rich.print(text, markup=False)

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """Add a bar of ``total`` units below the others."""
        if self.plain or self._rich.quiet:
            return
        if self._bar is None:
            text, note = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
            columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
            self._bar = Progress(*columns, console=self._rich, transient=True, refresh_per_second=4)
            self._bar.start()
        self._bar.add_task(title, total=total, completed=done, note="")

    def move(self, done: int, note: str | None = None) -> None:
        """Advance the last bar to ``done`` units, with ``note`` beside it until the next call."""
        if self._bar is not None:
            last = self._bar.tasks[-1]
            self._bar.update(last.id, completed=done, note=last.fields["note"] if note is None else note)

    def end(self) -> None:
        """Remove the last bar."""
        if self._bar is not None:
            self._bar.remove_task(self._bar.task_ids[-1])
            if not self._bar.task_ids:
                self.close()

    def close(self) -> None:
        """Remove all bars."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class MetricsFile:
    """Write metrics.jsonl and TensorBoard events.

    Each line of metrics.jsonl is an object with ``kind`` ("train" or "eval"), ``stage`` (its folder, "0-main"),
    ``step`` (updates of that stage so far), ``split`` for evaluations, and figures. Events count steps across stages.

    >>> import tempfile
    >>> file = MetricsFile(Path(tempfile.mkdtemp()), starts={"0-main": 0}, at=("0-main", 0))
    >>> file.write("eval", "0-main", 10, {"miou": 0.5}, split="val")
    >>> file.evaluation("0-main", 10)
    {'miou': 0.5}
    >>> file.close()
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
        """Open a run's files at a step, as if the run had never gone further.

        Args:
          workdir: of the run.
          starts: folders of the stages in order, each with the number of steps before it.
          at: stage and step; later rows and events are removed.
          figures: how the stage's figures are displayed; those of earlier stages are kept in ``figures.json``.
          writes: False if another process writes the files.
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
        """Return the figures of the evaluation at a step, None if it was not written."""
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
    """The metrics of the steps since the last row of the log, left on the device until they are needed.

    >>> pending = PendingMetrics(jax.device_get, past=[])
    >>> pending.add(1, {"loss": jnp.float32(2.0)})
    >>> pending.add(2, {"loss": jnp.float32(1.0)})
    >>> pending.close()
    {'loss': 1.5}
    """

    def __init__(self, fetch: Any, past: list[dict[str, float]]):
        self._fetch = fetch
        self._known = list(past)
        self._waiting: list[tuple[int, Any]] = []

    def add(self, step: int, metrics: Any) -> None:
        """Add a step's metrics and wait for those of two steps ago: keeps the device busy without running far ahead."""
        self._waiting.append((step, metrics))
        if len(self._waiting) > 2:
            for leaf in self._waiting[-3][1].values():
                leaf.block_until_ready()

    def fetch(self) -> list[dict[str, float]]:
        """Return the metrics of every pending step.

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
        """Return the means over the pending steps, and the learning rate of the last one; then start anew."""
        rows = self.fetch()
        self._known = []
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[-1]} if rows else {}
        return {**means, **{name: rows[-1][name] for name in ("learning_rate",) if rows and name in rows[-1]}}


class Stopwatch:
    """Measure seconds of training since the last lap, without pauses.

    >>> watch = Stopwatch()
    >>> watch.pause()
    >>> watch.go()
    >>> watch.lap() > 0
    True
    """

    def __init__(self):
        self._begun = time.perf_counter()
        self._spent = 0.0

    def pause(self) -> None:
        """Stop counting until ``go``."""
        self._spent += time.perf_counter() - self._begun

    def go(self) -> None:
        """Resume counting."""
        self._begun = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds counted since the last lap."""
        self.pause()
        spent, self._spent = self._spent, 0.0
        self.go()
        return max(spent, 1e-9)


def evaluation(rows: list[dict[str, Any]], stage: str, step: int) -> dict[str, float] | None:
    """Return the figures of the evaluation at a step of a stage, None if it was not written.

    >>> row = {"kind": "eval", "stage": "0-main", "step": 10, "split": "val", "miou": 0.5}
    >>> evaluation([row], "0-main", 10)
    {'miou': 0.5}
    """
    for row in reversed(rows):
        if (row["kind"], row["stage"], row["step"]) == ("eval", stage, step):
            return {name: value for name, value in row.items() if name not in PLACE}
    return None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics.jsonl, up to the first incomplete line.

    >>> read_rows(Path("no such file"))
    []
    """
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def replace_text(path: Path, text: str) -> None:
    """Write a file atomically.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> replace_text(path, "whole")
    >>> path.read_text()
    'whole'
    """
    with atomic(path) as part:
        part.write_text(text)


def clock(seconds: float) -> str:
    """Format seconds as ``1:02:03`` or ``2:03``.

    >>> clock(3723.0)
    '1:02:03'
    """
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
