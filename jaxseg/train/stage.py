"""One stage of a recipe being trained in a work directory: what ``fit`` reads from and writes to."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from jaxseg.errors import BadInput, FailedRun
from jaxseg.recipe import dump, load
from jaxseg.train import checkpoint, environment, visuals
from jaxseg.train import state as states
from jaxseg.train.checkpoint import Checkpoints
from jaxseg.train.evaluate import evaluate_placed
from jaxseg.train.log import Console, MetricsFile, PendingMetrics, Stopwatch, clock, evaluation, read_rows, replace_text
from jaxseg.train.optim import check_multipliers
from jaxseg.train.placement import Placement
from jaxseg.train.precise_bn import STATISTICS, check_statistics, precise_bn_placed


class StageTrainer:
    """A stage between its first update and its last; ``step`` counts the updates made."""

    def __init__(self, recipe: Any, index: int, workdir: Path, placement: Placement, data_dir: Any, console: Console):
        self.stage = recipe.stages[index]
        self.step = 0
        self.metrics: dict[str, float] = {}
        self._recipe, self._index, self._workdir = recipe, index, workdir
        self._placement, self._data_dir, self._console = placement, data_dir, console
        self._shard = (jax.process_index(), jax.process_count())
        self._labels = [f"{i}-{stage.name}" for i, stage in enumerate(recipe.stages)]
        self._label = self._labels[index]
        self._folder = workdir / "stages" / self._label
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "StageTrainer":
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.close()

    def restore_or_start(self) -> Any:
        """The state of the last checkpoint, with the data stream and the log set back to it; else a new state."""
        done = self._finished()
        if done is not None:
            self.step, self.metrics = self.stage.steps, done
            return None
        self._check_batch_size()
        stage, seed = self.stage, self._recipe.seed
        self._checkpoints = self._opened(Checkpoints(self._folder / "checkpoints", keep=stage.keep_last))
        self._best = self._opened(Checkpoints(self._folder / "best", keep=1)) if stage.keep_best else None
        rows = stage.batch_size // self._shard[1]
        self._batches = stage.data.train_batches(
            batch_size=rows, seed=seed + self._index, data_dir=self._data_dir, shard=self._shard
        )
        self._open.callback(self._batches.close)
        last = self._checkpoints.latest()
        saved = None if last is None else checkpoint.read(self._checkpoints.folder, last)
        if saved is not None:
            self._batches.set_state(self._position(saved.notes["positions"]))
            self.step = saved.step
        self._first = next(self._batches)
        state = self._template(saved)
        if stage.precise_bn:
            check_statistics(stage.model, state.model_state)
        self._open_log([] if saved is None else saved.notes["window"])
        state = self._placement.put(state)
        if saved is not None:
            self._console.line(f"{self._label}: goes on from step {self.step}")
            if self.due(stage.eval_every):
                self._recall(state)
        return state

    def next_batch(self) -> Any:
        """The next batch, on the devices."""
        batch, self._first = self._first, None
        return self._placement.batch(next(self._batches) if batch is None else batch)

    def update(self, state: Any, batch: Any) -> Any:
        """The state after one more step; the old one is given up."""
        state, seen = self._train_step(state, batch)
        self.step += 1
        self._window.add(self.step, seen)
        self._timed += 1
        if self._timed == 0:  # the first step compiles: time is counted from its end
            jax.block_until_ready(seen)
            self._watch.lap()
        self._console.move(self.step)
        return state

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now."""
        return self.step % every == 0 or self.step == self.stage.steps

    def log(self) -> None:
        """One row of training metrics: their means since the last row."""
        means = self._seen(close=True)
        seconds, timed, self._timed = self._watch.lap(), self._timed, 0
        speed: dict[str, float] = {}
        note, left = f"loss {means['loss']:.4g}  {self._headline()}lr {means['learning_rate']:.3g}", ""
        if timed:
            speed = {"seconds": seconds / timed, "examples_per_second": timed * self.stage.batch_size / seconds}
            note += f"  {speed['examples_per_second']:.3g} examples/s"
            left = f"  {clock((self.stage.steps - self.step) * speed['seconds'])} left"
        self._journal.write("train", self._label, self.step, {**means, **speed})
        self._console.move(self.step, note)
        if self._console.plain:
            self._console.line(f"{self._label}  step {self.step}/{self.stage.steps}  {note}{left}")

    def precise_bn(self, state: Any) -> Any:
        """The state with new statistics of batch normalisation, from one pass over the training images.

        They are those of the variables that are evaluated. It comes before saving: a run that goes on from the
        checkpoint of this step has them already.
        """
        self._seen(close=False)
        self._watch.pause()
        batches = self._batches_of("train", self.stage.batch_size // self.stage.accumulate)
        self._console.begin("statistics", len(batches))
        found = precise_bn_placed(
            self.stage.model,
            states.variables(state),
            self.stage.task,
            batches,
            placement=self._placement,
            on_batch=self._console.move,
        )
        self._console.end()
        self._watch.go()
        return states.replace_variables(state, STATISTICS, self._placement.put(found))

    def save(self, state: Any) -> None:
        """Begin to write a checkpoint, unless a loss since the last one was not finite."""
        self._seen(close=False)
        self._watch.pause()
        self._checkpoints.save(self.step, self._placement.fetch(state), self._notes())
        self._watch.go()

    def evaluate(self, state: Any) -> None:
        """Metrics on the validation split, pictures, curves, and the best checkpoint if this is it."""
        self._seen(close=False)
        self._watch.pause()
        variables = states.variables(state)
        batches = self._batches_of("val", self.stage.eval_batch_size or self.stage.batch_size)
        self._console.begin("evaluate", len(batches))
        self.metrics = evaluate_placed(
            self.stage.model,
            variables,
            self.stage.task,
            batches,
            placement=self._placement,
            on_batch=self._console.move,
        )
        self._console.end()
        self._keep_best(state)
        if self._shard[0] == 0 and self.stage.pictures:
            self._draw(variables)
        # The row comes last: where it stands, nothing of this evaluation is missing.
        self._journal.write("eval", self._label, self.step, self.metrics, split="val")
        shown = "  ".join(f"{name} {value:.4f}" for name, value in self.metrics.items() if "/" not in name)
        self._console.line(f"{self._label}  step {self.step}/{self.stage.steps}  validation: {shown}")
        if self._shard[0] == 0:
            visuals.curves(self._workdir, title=self._recipe.name)
        self._watch.go()

    # what the above is made of, in the order of use

    def _finished(self) -> dict[str, float] | None:
        """The final metrics if this stage has been trained and evaluated to its end."""
        if checkpoint.latest_step(self._folder / "checkpoints") != self.stage.steps:
            return None
        return evaluation(read_rows(self._workdir / "metrics.jsonl"), self._label, self.stage.steps)

    def _check_batch_size(self) -> None:
        size, parts = self.stage.batch_size, self._placement.local_devices * self._shard[1] * self.stage.accumulate
        if size % parts:
            fits = [n for n in (size // parts * parts, (size // parts + 1) * parts) if n]
            micro = f" times {self.stage.accumulate} microbatches" if self.stage.accumulate > 1 else ""
            raise BadInput(
                f"batch_size {size} does not divide among {parts // self.stage.accumulate} devices{micro}; "
                f"{' or '.join(map(str, fits))} would"
            )

    def _opened(self, checkpoints: Checkpoints) -> Checkpoints:
        self._open.callback(checkpoints.close)
        return checkpoints

    def _template(self, saved: Any) -> Any:
        """The host state to go on from; builds the compiled step by the way."""
        stage, keeps = self.stage, self.stage.ema is not None
        tx, rate = stage.optimizer.build(stage.steps), stage.optimizer.schedule(stage.steps)
        key = jax.random.fold_in(jax.random.key(self._recipe.seed), self._index)
        self._train_step = self._placement.train_step(
            stage.model, stage.task, tx, accumulate=stage.accumulate, ema=stage.ema, rate=rate
        )

        def create() -> Any:
            return states.create(key, stage.model, stage.task, tx, self._first, ema=keeps)

        if saved is not None:
            shapes = jax.eval_shape(create)
            return checkpoint.fit_into(shapes, saved, what=str(self._folder / "checkpoints"))
        state = create()
        check_multipliers(stage.optimizer, state.params)
        if stage.init == "previous":
            origin = self._labels[self._index - 1]
            found = checkpoint.read(self._workdir / "stages" / origin / "checkpoints").variables
        elif stage.init is None:
            return state
        else:
            origin, found = stage.init, stage.init.load({"params": state.params, **state.model_state})
        state, carried, known = states.carry_over(state, found)
        self._console.line(f"{self._label}: {carried} of {known} arrays from {origin}")
        return state

    def _open_log(self, window: list[dict[str, float]]) -> None:
        starts, before = {}, 0
        for label, stage in zip(self._labels, self._recipe.stages, strict=True):
            starts[label], before = before, before + stage.steps
        self._start = starts[self._label]
        at = (self._label, self.step)
        self._journal = MetricsFile(self._workdir, starts, at=at, writes=self._shard[0] == 0)
        self._open.callback(self._journal.close)
        if self._shard[0] == 0:
            visuals.cut(self._workdir / "samples", self._start + self.step)
            environment.record(self._workdir, self._label, self.step, self._placement.devices)
        self._window = PendingMetrics(self._placement.fetch, window)
        self._watch = Stopwatch()
        self._timed = -1
        self._console.begin(self._label, self.stage.steps, self.step)
        self._open.callback(self._console.end)

    def _recall(self, state: Any) -> None:
        """The evaluation that belongs to the restored step, made again if the run died before it was written."""
        found = self._journal.evaluation(self._label, self.step)
        if found is None:
            self.evaluate(state)
        else:
            self.metrics = found

    def _position(self, positions: list[Any]) -> Any:
        index, count = self._shard
        if len(positions) != count:
            raise BadInput(f"the run was left by {len(positions)} processes: go on with as many, not with {count}")
        return checkpoint.unpack(positions[index])

    def _seen(self, *, close: bool) -> dict[str, float]:
        """The window's means if it closes, and in any case proof that all is finite so far."""
        try:
            self._window.fetch()
            return self._window.close() if close else {}
        except FailedRun as error:
            last = self._checkpoints.latest()
            kept = "no checkpoint was saved before" if last is None else f"the checkpoint of step {last} is kept"
            raise FailedRun(f"{error}; {kept}; try a smaller learning rate, clip, or a warm-up") from None

    def _notes(self) -> dict[str, Any]:
        positions = checkpoint.from_all_processes(checkpoint.pack(self._batches.get_state()))
        window = self._window.fetch()
        return {"recipe": dump(self._recipe), "stage": self._index, "positions": positions, "window": window}

    def _batches_of(self, split: str, rows: int) -> Any:
        rows = -(-rows // self._shard[1])
        return self.stage.data.eval_batches(batch_size=rows, split=split, data_dir=self._data_dir, shard=self._shard)

    def _keep_best(self, state: Any) -> None:
        if self._best is None:
            return
        name = self.stage.keep_best
        if name not in self.metrics:
            known = ", ".join(n for n in self.metrics if "/" not in n)
            self._console.line(
                f"keep_best: no best checkpoint is kept, as no metric is called {name!r}; there are {known}"
            )
            return
        last = self._best.latest()
        best = None if last is None else checkpoint.read_notes(self._best.folder, last)["metrics"].get(name)
        if best is None or self.metrics[name] > best:
            if last is not None and last >= self.step:  # kept before the run was set back, by other roundings
                self._best.remove(last)
            notes = {**self._notes(), "metrics": self.metrics}
            self._best.save(self.step, self._placement.fetch(state), notes)
            self._best.wait()

    def _draw(self, variables: Any) -> None:
        visuals.samples(
            self._workdir / "samples",
            self._start + self.step,
            stage=self.stage,
            variables=self._placement.fetch(variables),
            data_dir=self._data_dir,
        )

    def _headline(self) -> str:
        name = self.stage.keep_best
        return f"{name} {self.metrics[name]:.4f}  " if name in self.metrics else ""


def claim(workdir: Path, recipe: Any) -> None:
    """Write the recipe into a new work directory, or make sure that an old one is of the same recipe.

    A directory without a checkpoint counts as new: what was tried there got nowhere, and nothing is lost.

    Raises:
      BadInput: it is of another; the first field that differs is named.
    """
    path, form = workdir / "recipe.json", dump(recipe)
    if path.exists() and any((workdir / "stages").glob("*/checkpoints/[0-9]*")):
        try:
            old = json.loads(path.read_text())
        except ValueError as error:
            raise BadInput(f"{path} is damaged ({error}); choose another work directory") from error
        with contextlib.suppress(BadInput):  # a field that came into being since has its default value there
            old = json.loads(json.dumps(dump(load(old))))
        for where, there, here in differences(old, json.loads(json.dumps(form))):
            fault = f"{where} is {_brief(there)} there and {_brief(here)} here"
            raise BadInput(f"{workdir} holds a run of another recipe: {fault}; choose another work directory")
    elif jax.process_index() == 0:
        try:
            replace_text(path, json.dumps(form, indent=1) + "\n")
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise BadInput(f"{workdir} cannot be a work directory: {error.strerror}") from error


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two dumped recipes differ: the path as ``override`` writes it, what the first has there, and the second."""
    if isinstance(old, dict) and isinstance(new, dict):
        if "fields" in old and "fields" in new and old.get("type") == new.get("type"):
            yield from differences(old["fields"], new["fields"], path)
            return
        if old.keys() == new.keys() and "type" not in old:
            for name in old:
                yield from differences(old[name], new[name], _join(path, name))
            return
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, after, _join(path, str(index)))
        return
    if old != new:
        yield path or "recipe", old, new


@contextlib.contextmanager
def guarded(workdir: Path, console: Console) -> Iterator[None]:
    """A full disk becomes one line, and the bars go whatever happens."""
    try:
        yield
    except OSError as error:
        if checkpoint.is_full(error):
            raise FailedRun(
                f"no space left on the device of {workdir}: free some and give the same command again"
            ) from error
        raise
    finally:
        console.close()


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _brief(value: Any) -> str:
    if isinstance(value, dict) and "type" in value:
        return str(value["type"]).split(":")[-1]
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
