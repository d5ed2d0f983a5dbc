"""Train one stage of a recipe in a work directory: restore or start, update, log, save, evaluate."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from jaxseg.errors import BadInput, FailedRun, suggest
from jaxseg.recipe import dump
from jaxseg.tasks.protocol import check_facts, task_figures
from jaxseg.train import checkpoint, environment, visuals
from jaxseg.train import state as states
from jaxseg.train.checkpoint import Checkpoints
from jaxseg.train.evaluate import evaluate_placed
from jaxseg.train.fitting import Fitting
from jaxseg.train.freeze import check_freeze, restored
from jaxseg.train.log import Console, MetricsFile, PendingMetrics, Stopwatch, clock, evaluation, read_rows
from jaxseg.train.optim import check_multipliers
from jaxseg.train.patience import best_and_waited
from jaxseg.train.placement import Placement
from jaxseg.train.precise_bn import STATISTICS, check_statistics, precise_bn_placed
from jaxseg.train.site import FinishedStage, Site
from jaxseg.types import figure_of


@contextlib.contextmanager
def open_stage(
    recipe: Any, index: int, workdir: Path, placement: Placement, data_dir: Any, console: Console
) -> "Iterator[tuple[StageTrainer | FinishedStage, Any]]":
    """Open a stage, new or resumed; yield it with its training state on the devices.

    In this order:

    1. Yield the final metrics if the stage is finished.
    2. Check what can be checked: batch size against devices, task against data set, and, at the very beginning, that
       the validation split can be read.
    3. Find the last checkpoint, set the data stream to its position, and take the first batch.
    4. Compile the step. Fit the checkpoint's arrays into the state's shapes; without a checkpoint create a state, and
       initialise it from ``stage.init``.
    5. Open the log as if the run had never gone beyond the checkpoint: later rows, events and samples are cut.
    6. Put the state on the devices.
    7. Evaluate again if the run died between the checkpoint and the evaluation of the same step.

    A finished stage has its metrics and no state:

    >>> import tempfile
    >>> from jaxseg.recipe import find_file, load_file
    >>> from jaxseg.train.placement import single
    >>> recipe, workdir = load_file(find_file("unet_scenes")), Path(tempfile.mkdtemp())
    >>> site = Site(recipe, 0, workdir, single(), None, Console(quiet=True))
    >>> with contextlib.closing(Checkpoints(site.folder / "checkpoints", keep=1)) as checkpoints:
    ...     checkpoints.save(site.stage.steps, {"step": np.int32(site.stage.steps)}, notes={})
    >>> with contextlib.closing(MetricsFile(workdir, {"0-main": 0}, at=("0-main", site.stage.steps))) as rows:
    ...     rows.write("eval", "0-main", site.stage.steps, {"miou": 0.5}, split="val")
    >>> with open_stage(recipe, 0, workdir, site.placement, None, site.console) as (run, state):
    ...     run.metrics, state
    ({'miou': 0.5}, None)
    """
    site = Site(recipe, index, workdir, placement, data_dir, console)
    stage = site.stage
    done = _finished(site)  # 1
    if done is not None:
        yield FinishedStage(stage.steps, done), None
        return
    _check_batch_size(site)  # 2
    _check_patience(stage)
    check_facts(stage.task, stage.data.facts(data_dir))
    with contextlib.ExitStack() as opened:
        checkpoints = Checkpoints(site.folder / "checkpoints", keep=stage.keep_last)
        opened.enter_context(contextlib.closing(checkpoints))
        best = Checkpoints(site.folder / "best", keep=1) if stage.keep_best else None
        if best is not None:
            opened.enter_context(contextlib.closing(best))
        batches = stage.data.train_batches(
            batch_size=stage.batch_size // site.shard[1], seed=recipe.seed + index, data_dir=data_dir, shard=site.shard
        )
        opened.callback(batches.close)
        last = checkpoints.latest()  # 3
        saved = None if last is None else checkpoint.read(checkpoints.folder, last)
        if saved is None:
            site.eval_batches("val", site.eval_rows)  # sizes that cannot be stacked show here
            next(iter(site.eval_batches("val", site.eval_rows, limit=site.eval_rows)))
        else:
            batches.set_state(_position(site, saved.notes["positions"]))
        first = next(batches)
        train_step, state = _compile_and_fill(site, saved, first)  # 4
        if stage.precise_bn:
            check_statistics(stage.model, state.model_state)
        step = 0 if saved is None else saved.step
        rows = _open_log(site, step)  # 5
        opened.callback(rows.close)
        pending = PendingMetrics(placement.fetch, [] if saved is None else saved.notes["window"])
        console.begin(site.label, stage.steps, step)
        opened.callback(console.end)
        state = placement.put(state)  # 6
        trainer = StageTrainer(site, step, batches, first, train_step, checkpoints, best, rows, pending)
        if saved is not None:
            console.line(f"{site.label}: resumed at step {step}")
            if trainer.due(stage.eval_every):
                trainer.recall(state)  # 7
        yield trainer, state


class StageTrainer:
    """A stage between its first update and its last; ``step`` counts the updates made. Made by :func:`open_stage`.

    ``stopped`` is True once ``Stage.patience`` has run out.

    >>> import tempfile
    >>> from jaxseg.recipe import find_file, load_file
    >>> from jaxseg.train.placement import single
    >>> recipe, workdir = load_file(find_file("unet_scenes")), Path(tempfile.mkdtemp())
    >>> site = Site(recipe, 0, workdir, single(), None, Console(quiet=True))
    >>> rows = MetricsFile(workdir, {"0-main": 0}, at=("0-main", 0))
    >>> checkpoints, pending = Checkpoints(site.folder / "checkpoints", keep=1), PendingMetrics(jax.device_get, [])
    >>> def count(state, batch):
    ...     return state + 1, {"loss": jnp.float32(0.5), "learning_rate": jnp.float32(0.1)}
    >>> trainer = StageTrainer(site, 0, iter([]), {"image": np.zeros(1)}, count, checkpoints, None, rows, pending)
    >>> state = trainer.update(0, trainer.next_batch())
    >>> trainer.log()
    >>> trainer.step, rows.rows[-1]["loss"]
    (1, 0.5)
    >>> checkpoints.close()
    >>> rows.close()
    """

    def __init__(
        self,
        site: Site,
        step: int,
        batches: Any,
        first: Any,
        train_step: Any,
        checkpoints: Checkpoints,
        best: Checkpoints | None,
        rows: MetricsFile,
        pending: PendingMetrics,
    ):
        self.stage = site.stage
        self.step = step
        self.stopped = False
        self.metrics: dict[str, float] = {}
        self._site, self._placement, self._console, self._label = site, site.placement, site.console, site.label
        self._batches, self._first, self._train_step = batches, first, train_step
        self._checkpoints, self._best = checkpoints, best
        self._rows, self._pending = rows, pending
        self._watch = Stopwatch()
        self._timed = -1  # steps since the last row; -1 until the first step has compiled

    def next_batch(self) -> Any:
        """Return the next batch, on the devices."""
        batch, self._first = self._first, None
        return self._placement.batch(next(self._batches) if batch is None else batch)

    def update(self, state: Any, batch: Any) -> Any:
        """Return the state after one more step; the input state is donated."""
        state, seen = self._train_step(state, batch)
        self.step += 1
        self._pending.add(self.step, seen)
        self._timed += 1
        if self._timed == 0:  # the first step compiles: time is counted from its end
            jax.block_until_ready(seen)
            self._watch.lap()
        self._console.move(self.step)
        return state

    def due(self, every: int) -> bool:
        """Return True if something that happens every so many steps, and at the end, happens now."""
        return self.step % every == 0 or self.step == self.stage.steps

    def log(self) -> None:
        """Write one row of training metrics: their means since the last row."""
        means = self._fetch(close=True)
        seconds, timed, self._timed = self._watch.lap(), self._timed, 0
        speed: dict[str, float] = {}
        note, left = f"loss {means['loss']:.4g}  {self._headline()}lr {means['learning_rate']:.3g}", ""
        if timed:
            speed = {"seconds": seconds / timed, "examples_per_second": timed * self.stage.batch_size / seconds}
            note += f"  {speed['examples_per_second']:.3g} examples/s"
            left = f"  {clock((self.stage.steps - self.step) * speed['seconds'])} left"
        self._rows.write("train", self._label, self.step, {**means, **speed})
        self._console.move(self.step, note)
        if self._console.plain:
            self._console.line(f"{self._label}  step {self.step}/{self.stage.steps}  {note}{left}")

    def precise_bn(self, state: Any) -> Any:
        """Return the state with BatchNorm statistics recomputed in one pass over the training images.

        They are those of the variables that are evaluated. It comes before saving, so that a run resumed from the
        checkpoint of this step has them already.
        """
        self._fetch(close=False)
        self._watch.pause()
        batches = self._site.eval_batches("train", self.stage.batch_size // self.stage.accumulate)
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
        if self.stage.freeze:
            before = self._placement.fetch(states.variables(state)[STATISTICS])
            found = restored(found, before, self.stage.freeze)
        return states.replace_variables(state, STATISTICS, self._placement.put(found))

    def save(self, state: Any) -> None:
        """Begin to write a checkpoint, unless a loss since the last one was not finite."""
        self._fetch(close=False)
        self._watch.pause()
        self._checkpoints.save(self.step, self._placement.fetch(state), self._notes())
        self._watch.go()

    def evaluate(self, state: Any) -> None:
        """Evaluate on the validation split, draw samples and curves, and keep the checkpoint if it is the best."""
        self._fetch(close=False)
        self._watch.pause()
        variables = states.variables(state)
        batches = self._site.eval_batches("val", self._site.eval_rows)
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
        writes = self._site.shard[0] == 0
        if writes and self.stage.pictures:
            self._draw(variables)
        # The row comes last: where it stands, nothing of this evaluation is missing.
        self._rows.write("eval", self._label, self.step, self.metrics, split="val")
        shown = "  ".join(f"{name} {value:.4f}" for name, value in self.metrics.items() if "/" not in name)
        self._console.line(f"{self._label}  step {self.step}/{self.stage.steps}  validation: {shown}")
        self._count_patience()
        if writes:
            visuals.curves(self._site.workdir, title=self._site.recipe.name)
        self._watch.go()

    def recall(self, state: Any) -> None:
        """Read the evaluation of the restored step, or repeat it if the run died before it was written."""
        found = self._rows.evaluation(self._label, self.step)
        if found is None:
            self.evaluate(state)
        else:
            self.metrics = found
            self._count_patience()

    def _count_patience(self) -> None:
        """Stop if the last evaluations, as many as the stage has patience for, have not improved its best figure."""
        waited = _waited(self.stage, self._rows.rows, self._label)
        if waited is not None and self.step < self.stage.steps:
            step, value, name = waited
            self.stopped = True
            self._console.line(
                f"{self._label}: stopped at step {self.step}: {name} has not improved on {value:.4f} of step {step} in "
                f"{self.stage.patience} evaluations"
            )

    def _fetch(self, *, close: bool) -> dict[str, float]:
        """Check that all metrics so far are finite; return their means since the last row if it ``close``s."""
        try:
            self._pending.fetch()
            return self._pending.close() if close else {}
        except FailedRun as error:
            last = self._checkpoints.latest()
            kept = "no checkpoint was saved before" if last is None else f"the checkpoint of step {last} is kept"
            raise FailedRun(f"{error}; {kept}; try a smaller learning rate, clip, or a warm-up") from None

    def _notes(self) -> dict[str, Any]:
        positions = checkpoint.from_all_processes(checkpoint.pack(self._batches.get_state()))
        window, recipe = self._pending.fetch(), dump(self._site.recipe)
        return {"recipe": recipe, "stage": self._site.index, "positions": positions, "window": window}

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
        figure = figure_of(task_figures(self.stage.task), name)
        if best is None or figure.is_better(self.metrics[name], best):
            if last is not None and last >= self.step:  # kept before the run was set back, by other roundings
                self._best.remove(last)
            notes = {**self._notes(), "metrics": self.metrics}
            self._best.save(self.step, self._placement.fetch(state), notes)
            self._best.wait()

    def _draw(self, variables: Any) -> None:
        unpainted = visuals.samples(
            self._site.workdir / "samples",
            self._site.start + self.step,
            stage=self.stage,
            variables=self._placement.fetch(variables),
            data_dir=self._site.data_dir,
        )
        if unpainted:
            self._console.line(f"{self._label}: no painter draws {', '.join(unpainted)} (jaxseg.viz.painter)")

    def _headline(self) -> str:
        name = self.stage.keep_best
        return f"{name} {self.metrics[name]:.4f}  " if name in self.metrics else ""


# The steps of open_stage, in their order.


def _finished(site: Site) -> dict[str, float] | None:
    """Return the final metrics if the stage was trained and evaluated to its end, or until its patience ran out."""
    last = checkpoint.latest_step(site.folder / "checkpoints")
    if last is None or (last != site.stage.steps and site.stage.patience is None):
        return None
    rows = [row for row in read_rows(site.workdir / "metrics.jsonl") if row["step"] <= last]
    if last != site.stage.steps and _waited(site.stage, rows, site.label) is None:
        return None
    return evaluation(rows, site.label, last)


def _waited(stage: Any, rows: list[dict[str, Any]], label: str) -> tuple[int, float, str] | None:
    """Return step, value and name of the best evaluation if the stage's patience has run out since; else None."""
    if stage.patience is None:
        return None
    name = stage.keep_best
    found = best_and_waited(rows, label, name, figure_of(task_figures(stage.task), name))
    return None if found is None or found[2] < stage.patience else (found[0], found[1], name)


def _check_batch_size(site: Site) -> None:
    size, micro = site.stage.batch_size, site.stage.accumulate
    devices = site.placement.local_devices * site.shard[1]
    parts = devices * micro
    if size % parts:
        fits = [n for n in (size // parts * parts, (size // parts + 1) * parts) if n]
        times = f" times {micro} microbatches" if micro > 1 else ""
        raise BadInput(
            f"batch_size {size} does not divide among {devices} devices{times}; {' or '.join(map(str, fits))} would"
        )


def _check_patience(stage: Any) -> None:
    """Refuse to wait for a figure that no metric of the task gives."""
    figures, name = task_figures(stage.task), stage.keep_best
    if stage.patience is not None and name.split("/")[0] not in figures:
        raise BadInput(f"patience waits for keep_best={name!r}, but no metric is called so{suggest(name, figures)}")


def _position(site: Site, positions: list[Any]) -> Any:
    index, count = site.shard
    if len(positions) != count:
        raise BadInput(f"the run was left by {len(positions)} processes: resume it with as many, not with {count}")
    return checkpoint.unpack(positions[index])


def _compile_and_fill(site: Site, saved: Any, first: Any) -> tuple[Any, Any]:
    """Return the compiled step and the host state to go on from."""
    stage, recipe, keeps = site.stage, site.recipe, site.stage.ema is not None
    tx, rate = stage.optimizer.build(stage.steps), stage.optimizer.schedule(stage.steps)
    key = jax.random.fold_in(jax.random.key(recipe.seed), site.index)
    train_step = site.placement.train_step(
        stage.model, stage.task, tx, accumulate=stage.accumulate, ema=stage.ema, rate=rate, freeze=stage.freeze
    )

    def create() -> Any:
        return states.create(key, stage.model, stage.task, tx, first, ema=keeps)

    if saved is not None:
        shapes = jax.eval_shape(create)
        return train_step, checkpoint.fit_into(shapes, saved, what=str(site.folder / "checkpoints"))
    state = create()
    check_multipliers(stage.optimizer, state.params)
    check_freeze(stage.freeze, {"params": state.params, **state.model_state})
    if stage.init is None:
        return train_step, state
    if stage.init == "previous" or isinstance(stage.init, Fitting):
        origin = site.labels[site.index - 1]
        found = checkpoint.read(site.workdir / "stages" / origin / "checkpoints").variables
    else:
        variables = {"params": state.params, **state.model_state}
        origin, found = stage.init, stage.init.load(variables, model=stage.model, log=site.console.line)
    state, carried, known = states.carry_over(state, found)
    site.console.line(f"{site.label}: {carried} of {known} arrays from {origin}")
    if isinstance(stage.init, Fitting):
        variables, folder = states.variables(state), site.folder / "fitted"
        found = stage.init.fit(variables, stage=stage, data_dir=site.data_dir, folder=folder, log=site.console.line)
        state, carried, known = states.carry_over(state, found)
        site.console.line(f"{site.label}: {carried} of {known} arrays from {stage.init}")
    return train_step, state


def _open_log(site: Site, step: int) -> MetricsFile:
    starts, before = {}, 0
    for label, stage in zip(site.labels, site.recipe.stages, strict=True):
        starts[label], before = before, before + stage.steps
    writes = site.shard[0] == 0
    figures = task_figures(site.stage.task)
    rows = MetricsFile(site.workdir, starts, at=(site.label, step), figures=figures, writes=writes)
    if writes:
        visuals.cut(site.workdir / "samples", site.start + step)
        environment.record(site.workdir, site.label, step, site.placement.devices)
    return rows
