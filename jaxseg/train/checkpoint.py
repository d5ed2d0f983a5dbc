"""Checkpoints: Orbax directories, written atomically.

A checkpoint holds the state (NumPy arrays by path, so that any placement restores it) and a small JSON part: the
recipe, the position of each process's data stream, and the metrics since the last row of the log. Saving copies the
state and writes it in the background.
"""

import base64
import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.errors import BadInput, FailedRun, several
from jaxseg.files import disk_is_full
from jaxseg.recipe import FORMAT, check_format
from jaxseg.train.optim import path_of

# Orbax tells each failure twice: as an exception, which becomes one line here, and as a traceback in absl's log.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)


@dataclass(frozen=True)
class Saved:
    """A checkpoint read from disk: the step, the state as a nested dict by path, and its JSON notes.

    >>> Saved(step=1, state={"params": {"kernel": 0}}, notes={}).variables
    {'params': {'kernel': 0}}
    """

    step: int
    state: dict[str, Any]
    notes: dict[str, Any]

    @property
    def variables(self) -> dict[str, Any]:
        """The variables for evaluation and export: the moving averages if kept, else the network's own."""
        if self.state.get("ema"):
            return self.state["ema"]
        return {"params": self.state["params"], **self.state.get("model_state", {})}


class Checkpoints:
    """The checkpoints in one folder; the ``keep`` latest are kept.

    >>> import tempfile
    >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()), keep=1)
    >>> checkpoints.save(3, {"step": np.int32(3)}, notes={})
    >>> checkpoints.close()
    >>> latest_step(checkpoints.folder)
    3
    """

    def __init__(self, folder: Path, *, keep: int):
        self.folder = Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True, create=True)
        with _one_line(self.folder):
            _remove_torn(self.folder)
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=("state", "notes"))

    def save(self, step: int, state: Any, notes: dict[str, Any]) -> None:
        """Start to write ``state``, a host tree that must not change, as the checkpoint of ``step``.

        Raises:
          FailedRun: this or the previous save failed; earlier checkpoints are intact.
        """
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(by_path(state)),
            notes=ocp.args.JsonSave({"format": FORMAT, **notes, "step": step}),
        )
        with _one_line(self.folder):
            self._manager.wait_until_finished()
            self._manager.save(step, args=arguments, force=True)

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
          FailedRun: a save failed.
        """
        with _one_line(self.folder):
            self._manager.wait_until_finished()

    def remove(self, step: int) -> None:
        """Remove one checkpoint."""
        self.wait()
        self._manager.delete(step)

    def close(self) -> None:
        """Wait and close the folder."""
        self.wait()
        self._manager.close()

    def latest(self) -> int | None:
        """Return the step of the last complete checkpoint."""
        return latest_step(self.folder)


def latest_step(folder: Path) -> int | None:
    """Return the step of the last complete checkpoint in a folder, None if there is none.

    >>> latest_step(Path("no such folder")) is None
    True
    """
    steps = [int(entry.name) for entry in _entries(folder) if entry.name.isdigit() and _whole(entry)]
    return max(steps, default=None)


def read(folder: Path, step: int | None = None) -> Saved:
    """Read the last checkpoint in a folder, or that of ``step``, independent of model and placement.

    >>> import tempfile
    >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()), keep=1)
    >>> checkpoints.save(3, {"step": np.int32(3)}, notes={"recipe": "unet"})
    >>> checkpoints.close()
    >>> saved = read(checkpoints.folder)
    >>> saved.step, saved.notes["recipe"]
    (3, 'unet')

    Raises:
      BadInput: there is no checkpoint, or its files are damaged.
    """
    found = latest_step(folder) if step is None else step
    if found is None or not _whole(Path(folder) / str(found)):
        raise BadInput(f"there is no checkpoint in {folder}")
    place = Path(folder).absolute() / str(found)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            stored = checkpointer.metadata(place / "state").item_metadata
            target = jax.tree.map(lambda m: np.empty(m.shape, m.dtype), dict(stored.tree))
            state = checkpointer.restore(place / "state", target)
        return Saved(found, state, read_notes(folder, found))
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"checkpoint {place} cannot be read ({_first_line(error)}); remove that folder") from error


def read_notes(folder: Path, step: int) -> dict[str, Any]:
    """Return the JSON notes of a checkpoint, without its arrays.

    >>> import tempfile
    >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()), keep=1)
    >>> checkpoints.save(3, {"step": np.int32(3)}, notes={"recipe": "unet"})
    >>> checkpoints.close()
    >>> read_notes(checkpoints.folder, 3)["recipe"]
    'unet'

    Raises:
      BadInput: another version of jaxseg wrote it.
    """
    notes = json.loads((Path(folder) / str(step) / "notes" / "metadata").read_text())
    check_format(notes, f"checkpoint {Path(folder) / str(step)}")
    return notes


def fit_into(state: Any, saved: Saved, *, what: str) -> Any:
    """Return ``state`` with every leaf replaced by the saved one of the same path.

    >>> fit_into({"a": np.zeros(2)}, Saved(0, {"a": np.ones(2)}, {}), what="runs/a")
    {'a': array([1., 1.])}

    Args:
      state: tree of arrays.
      saved: checkpoint.
      what: source of the checkpoint, for the error.

    Raises:
      BadInput: paths, shapes or dtypes differ; the first differences are listed.
    """
    wanted = flatten_dict(by_path(state), sep="/")
    found = flatten_dict(saved.state, sep="/")
    faults = [f"{path} {_form(wanted[path])} is missing" for path in wanted if path not in found]
    faults += [f"{path} {_form(found[path])} has no place" for path in found if path not in wanted]
    faults += [
        f"{path} is {_form(found[path])}, not {_form(wanted[path])}"
        for path in wanted
        if path in found and _form(found[path]) != _form(wanted[path])
    ]
    if faults:
        raise BadInput(f"the checkpoint in {what} is of another model: {several(faults, between='; ')}")
    return jax.tree_util.tree_map_with_path(lambda path, _: found[path_of(path)], state)


def by_path(tree: Any) -> dict[str, Any]:
    """Return the leaves of any tree as a nested dict keyed by their paths.

    >>> by_path([{"a": 1}, 2])
    {'0': {'a': 1}, '1': 2}
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return unflatten_dict({tuple(path_of(path).split("/")): leaf for path, leaf in leaves})


def pack(position: Any) -> Any:
    """Return a data stream's position as JSON.

    >>> pack(b"abc")
    {'base64': 'YWJj'}
    """
    return {"base64": base64.b64encode(position).decode()} if isinstance(position, bytes) else position


def from_all_processes(form: Any) -> list[Any]:
    """Gather one small JSON value per process, in their order, on every process.

    >>> from_all_processes({"rows": 4})
    [{'rows': 4}]
    """
    if jax.process_count() == 1:
        return [form]
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(form).encode(), np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.asarray(text.size))).reshape(-1)
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: text.size] = text
    gathered = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(sizes), -1)
    return [json.loads(row[:size].tobytes()) for row, size in zip(gathered, sizes, strict=True)]


def unpack(form: Any) -> Any:
    """Invert ``pack``.

    >>> unpack(pack(b"abc"))
    b'abc'
    """
    return base64.b64decode(form["base64"]) if isinstance(form, dict) and form.keys() == {"base64"} else form


@contextlib.contextmanager
def _one_line(folder: Path) -> Iterator[None]:
    """Turn every error while saving into one line, and remove half-written files."""
    try:
        yield
    except Exception as error:
        with contextlib.suppress(OSError):
            _remove_torn(folder)
        last = latest_step(folder)
        intact = "there is none before it" if last is None else f"that of step {last} is intact"
        if disk_is_full(error):
            reason = f"no space left on the device of {folder}: free some and give the same command again"
        else:
            reason = f"{folder}: {_first_line(error)}"
        raise FailedRun(f"a checkpoint could not be saved; {intact}; {reason}") from error


def _entries(folder: Path) -> list[Path]:
    return sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []


def _whole(place: Path) -> bool:
    """Return True if a checkpoint is complete: Orbax's own mark and all required parts exist."""
    parts = ("_CHECKPOINT_METADATA", "state/_METADATA", "state/manifest.ocdbt", "notes/metadata")
    return all((place / part).is_file() for part in parts)


def _remove_torn(folder: Path) -> None:
    if jax.process_index() == 0:
        for entry in _entries(folder):
            torn = entry.name.isdigit() and not _whole(entry)
            if entry.is_dir() and (torn or ".orbax-checkpoint-tmp" in entry.name):
                shutil.rmtree(entry)


def _form(value: Any) -> str:
    return f"{np.dtype(value.dtype).name}[{','.join(map(str, np.shape(value)))}]"


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {text}"[:300]
