"""Placements: the only module that handles devices and processes.

``single()`` uses one device, ``sharded()`` compiles one program over a mesh (``jit`` with ``NamedSharding``), and
``replicated()`` runs one replica per device with collectives (``pmap``). From the same seed and batches all three give
the same parameters, up to rounding.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxseg.errors import BadInput, suggest
from jaxseg.train.step import make_eval_step, make_statistics_step, make_train_step
from jaxseg.types import DATA_AXIS, mesh_axes


@runtime_checkable
class Placement(Protocol):
    """Put arrays on devices and compile steps for them."""

    @property
    def devices(self) -> int:
        """Number of devices that share a batch, over all processes."""
        ...

    @property
    def local_devices(self) -> int:
        """Number of parts that this process's rows are split into."""
        ...

    def put(self, tree: Any) -> Any:
        """Put a host tree, the same on every process, on all devices."""
        ...

    def fetch(self, tree: Any) -> Any:
        """Return a tree made by ``put`` or by a step as NumPy arrays that later steps do not touch."""
        ...

    def batch(self, batch: Mapping[str, Any]) -> Any:
        """Put this process's rows on its devices.

        Raises:
          BadInput: the rows cannot be split evenly.
        """
        ...

    def train_step(self, model: Any, task: Any, tx: Any, **options: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
        """Return ``make_train_step`` compiled; the input state is donated."""
        ...

    def eval_step(self, model: Any, task: Any) -> Callable[[Any, Any], Any]:
        """Return ``make_eval_step`` compiled."""
        ...

    def statistics_step(self, model: Any, task: Any) -> Callable[[Any, Any, Any], Any]:
        """Return ``make_statistics_step`` compiled; ``fetch`` takes its result."""
        ...

    def observations(self, tree: Any) -> list[Any]:
        """Return the results of ``eval_step`` as host trees, in the order of their rows."""
        ...


def by_name(name: str) -> "Placement":
    """Return the placement called "single", "sharded" or "replicated".

    >>> by_name("single").devices
    1

    Raises:
      BadInput: unknown name.
    """
    known = {"single": single, "sharded": sharded, "replicated": replicated}
    if name not in known:
        raise BadInput(f"no placement is called {name!r}{suggest(name, known)}")
    return known[name]()


def single(device: Any = None) -> "Single":
    """Place everything on one device, by default the first.

    >>> single().devices
    1
    """
    return Single(jax.local_devices()[0] if device is None else device)


def sharded(mesh: Mesh | None = None) -> "Sharded":
    """Run one program over a mesh whose axis "data" shards the batch; by default over all devices of all processes.

    A second axis "h" also shards the rows of images and maps, for images too large for one device.

    >>> sharded().devices == jax.device_count()
    True
    """
    return Sharded(Mesh(np.array(jax.devices()), (DATA_AXIS,)) if mesh is None else mesh)


def replicated() -> "Replicated":
    """Run one replica of the state per local device, with collectives by name (``pmap``).

    >>> replicated().local_devices == jax.local_device_count()
    True
    """
    return Replicated(tuple(jax.local_devices()))


@dataclass(frozen=True)
class Single:
    """Placement on one device, see :func:`single`.

    >>> Single(jax.local_devices()[0]).local_devices
    1
    """

    device: Any

    def __post_init__(self):
        if jax.process_count() > 1:
            raise BadInput(f"placement 'single' cannot join {jax.process_count()} processes; use sharded or replicated")

    @property
    def devices(self) -> int:
        """One."""
        return 1

    @property
    def local_devices(self) -> int:
        """One."""
        return 1

    def put(self, tree: Any) -> Any:
        """Put the tree on the device."""
        return jax.device_put(tree, self.device)

    def fetch(self, tree: Any) -> Any:
        """Return the tree as NumPy arrays of its own."""
        return jax.tree.map(_copy, jax.device_get(tree))

    def batch(self, batch: Mapping[str, Any]) -> Any:
        """Put the batch on the device."""
        return jax.device_put(dict(batch), self.device)

    def train_step(self, model: Any, task: Any, tx: Any, **options: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
        """Return the compiled step; the input state is donated."""
        return jax.jit(make_train_step(model, task, tx, **options), donate_argnums=0)

    def eval_step(self, model: Any, task: Any) -> Callable[[Any, Any], Any]:
        """Return the compiled evaluation step."""
        return jax.jit(make_eval_step(model, task))

    def statistics_step(self, model: Any, task: Any) -> Callable[[Any, Any, Any], Any]:
        """Return the compiled step to a batch's statistics."""
        return jax.jit(make_statistics_step(model, task))

    def observations(self, tree: Any) -> list[Any]:
        """Return one observation."""
        return [jax.device_get(tree)]


@dataclass(frozen=True)
class Sharded:
    """Placement on a mesh, see :func:`sharded`.

    >>> Sharded(Mesh(np.array(jax.devices()[:1]), (DATA_AXIS,))).devices
    1
    """

    mesh: Mesh

    def __post_init__(self):
        if DATA_AXIS not in self.mesh.axis_names:
            raise BadInput(f"the mesh has the axes {self.mesh.axis_names}, but needs one called {DATA_AXIS!r}")

    @property
    def devices(self) -> int:
        """The length of the mesh's data axis."""
        return self.mesh.shape[DATA_AXIS]

    @property
    def local_devices(self) -> int:
        """This process's part of the mesh's data axis."""
        return max(self.devices // jax.process_count(), 1)

    @property
    def _everywhere(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def put(self, tree: Any) -> Any:
        """Put the tree on every device."""
        return jax.tree.map(lambda x: self._place(x, self._everywhere), tree)

    def fetch(self, tree: Any) -> Any:
        """Return the tree as NumPy arrays of its own."""
        return jax.tree.map(lambda x: _copy(x.addressable_data(0)), tree)

    def batch(self, batch: Mapping[str, Any]) -> Any:
        """Shard the rows over the data axis."""
        check_divides(batch, self.local_devices)
        return {name: self._place(value, self._sharding(name, value)) for name, value in batch.items()}

    def train_step(self, model: Any, task: Any, tx: Any, **options: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
        """Return the compiled step; the input state is donated."""
        step = make_train_step(model, task, tx, **options)
        return jax.jit(step, donate_argnums=0, out_shardings=self._everywhere)

    def eval_step(self, model: Any, task: Any) -> Callable[[Any, Any], Any]:
        """Return the compiled evaluation step; every device holds the whole observation."""
        return jax.jit(make_eval_step(model, task), out_shardings=self._everywhere)

    def statistics_step(self, model: Any, task: Any) -> Callable[[Any, Any, Any], Any]:
        """Return the compiled step to a batch's statistics, the same on every device."""
        return jax.jit(make_statistics_step(model, task), out_shardings=self._everywhere)

    def observations(self, tree: Any) -> list[Any]:
        """Return one observation of the whole batch."""
        return [jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)]

    def _place(self, value: Any, sharding: NamedSharding) -> Any:
        if jax.process_count() > 1:
            return jax.make_array_from_process_local_data(sharding, np.asarray(value))
        return jax.device_put(value, sharding)

    def _sharding(self, name: str, value: Any) -> NamedSharding:
        """Return how a key is spread, by the letters of its axes; an axis that does not divide stays whole."""
        shape = np.shape(value)
        names = [axis if axis in self.mesh.axis_names else None for axis in mesh_axes(name)]
        spec = [axis if axis and shape[i] % self.mesh.shape[axis] == 0 else None for i, axis in enumerate(names)]
        return NamedSharding(self.mesh, PartitionSpec(DATA_AXIS, *spec[1:]))


@dataclass(frozen=True)
class Replicated:
    """Placement of replicas, see :func:`replicated`.

    >>> Replicated(tuple(jax.local_devices()[:1])).local_devices
    1
    """

    local: tuple[Any, ...] = field(repr=False)

    @property
    def devices(self) -> int:
        """Every device of every process."""
        return len(self.local) * jax.process_count()

    @property
    def local_devices(self) -> int:
        """The devices of this process."""
        return len(self.local)

    def put(self, tree: Any) -> Any:
        """Put the tree on each device, along a new first axis."""
        return jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), (len(self.local), *np.shape(x))), tree)

    def fetch(self, tree: Any) -> Any:
        """Return the first device's copy as NumPy arrays of its own."""
        return jax.tree.map(_first, tree)

    def batch(self, batch: Mapping[str, Any]) -> Any:
        """Split the rows: ``[devices, rows per device, ...]``."""
        n = len(self.local)
        check_divides(batch, n)
        return {k: np.asarray(v).reshape(n, np.shape(v)[0] // n, *np.shape(v)[1:]) for k, v in batch.items()}

    def train_step(self, model: Any, task: Any, tx: Any, **options: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
        """Return the compiled step; the input state is donated."""
        step = make_train_step(model, task, tx, axis_name=DATA_AXIS, **options)
        return jax.pmap(step, axis_name=DATA_AXIS, donate_argnums=0)

    def eval_step(self, model: Any, task: Any) -> Callable[[Any, Any], Any]:
        """Return the compiled evaluation step; every device holds all observations."""
        observe = make_eval_step(model, task)

        def gathered(variables: Any, batch: Any) -> Any:
            return jax.lax.all_gather(observe(variables, batch), DATA_AXIS)

        return jax.pmap(gathered, axis_name=DATA_AXIS)

    def statistics_step(self, model: Any, task: Any) -> Callable[[Any, Any, Any], Any]:
        """Return the compiled step to a batch's statistics, the same on every device."""
        return jax.pmap(make_statistics_step(model, task), axis_name=DATA_AXIS)

    def observations(self, tree: Any) -> list[Any]:
        """Return one observation per device, in the order of their rows."""
        host = jax.tree.map(_first, tree)
        return [jax.tree.map(lambda x, d=d: x[d], host) for d in range(self.devices)]


def fill(batch: Mapping[str, Any], multiple: int) -> dict[str, Any]:
    """Return the batch with its first row repeated, marked ``real=False``, until its rows are a multiple of
    ``multiple``.

    >>> fill({"image": np.zeros((3, 8, 8, 3), np.uint8)}, 4)["real"].tolist()
    [True, True, True, False]
    """
    rows = _rows(batch)
    missing = -rows % multiple
    real = np.asarray(batch.get("real", np.ones(rows, bool)))
    filled = {k: np.concatenate([v, np.repeat(v[:1], missing, axis=0)]) if missing else v for k, v in batch.items()}
    return {**filled, "real": np.concatenate([real, np.zeros(missing, bool)])}


def check_divides(batch: Mapping[str, Any], parts: int) -> None:
    """Raise if a batch does not divide evenly among ``parts`` devices.

    >>> check_divides({"image": np.zeros((4, 8, 8, 3), np.uint8)}, 2)

    Raises:
      BadInput: the message names the nearest sizes that would do.
    """
    rows = _rows(batch)
    if rows % parts:
        fits = [n for n in (rows // parts * parts, (rows // parts + 1) * parts) if n]
        raise BadInput(f"a batch of {rows} does not divide among {parts} devices; {' or '.join(map(str, fits))} would")


def join_cluster() -> bool:
    """Join the other processes of a cluster's job; return True if there are any. Call it before JAX is used.

    Slurm, Open MPI and Cloud TPU are detected from their environment variables by ``jax.distributed.initialize``.
    Elsewhere set ``JAX_COORDINATOR_ADDRESS`` (host:port of the first process), ``JAX_NUM_PROCESSES`` and
    ``JAX_PROCESS_ID``.

    >>> join_cluster()
    False

    Raises:
      BadInput: only some of the three variables are set.
    """
    if jax.distributed.is_initialized():
        return jax.process_count() > 1
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    found = [os.environ.get(name) for name in names]
    if all(found):
        jax.distributed.initialize(str(found[0]), int(str(found[1])), int(str(found[2])))
    elif any(found[1:]):
        missing = [name for name, value in zip(names, found, strict=True) if not value]
        raise BadInput(f"to join a cluster set {' and '.join(missing)} too")
    elif _cluster_size() > 1:
        jax.distributed.initialize()
    else:
        return False
    return jax.process_count() > 1


def _cluster_size() -> int:
    """Return how many processes the job has by the variables of the launchers that JAX recognises, 1 if there is
    none.
    """
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    counts = [os.environ.get(name, "") for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")]
    inside = "SLURM_STEP_NODELIST" in os.environ or "SLURM_NTASKS" not in os.environ
    sizes = [int(n) for n in counts if n.isdigit() and inside]
    return max([1, *sizes, len([h for h in hosts.split(",") if h])])


@lru_cache(maxsize=8)
def eval_step(placement: Placement, model: Any, task: Any) -> Callable[[Any, Any], Any]:
    """Return ``placement.eval_step``, compiled once for each model and task.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> eval_step(single(), unet(num_classes=2), Semantic(2)) is eval_step(single(), unet(num_classes=2), Semantic(2))
    True
    """
    return placement.eval_step(model, task)


@lru_cache(maxsize=8)
def statistics_step(placement: Placement, model: Any, task: Any) -> Callable[[Any, Any, Any], Any]:
    """Return ``placement.statistics_step``, compiled once for each model and task.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> callable(statistics_step(single(), unet(num_classes=2), Semantic(2)))
    True
    """
    return placement.statistics_step(model, task)


def _rows(batch: Mapping[str, Any]) -> int:
    return int(np.shape(next(iter(batch.values())))[0])


def _first(x: Any) -> np.ndarray:
    data = x.addressable_data(0) if isinstance(x, jax.Array) else x[:1]
    return np.array(data).reshape(np.shape(x)[1:])


def _copy(x: Any) -> np.ndarray:
    return np.array(x)
