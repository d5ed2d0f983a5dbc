"""Make batches ahead, in threads or in worker processes that end with their parent."""

import functools
import multiprocessing
import os
import pickle
import shutil
import tempfile
import threading
import uuid
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

Batch = dict[str, np.ndarray]


def prefetched(dataset: Any, workers: int, ahead: int) -> Any:
    """Return an iterable of batches made ahead, in order, by threads of this process or by worker processes.

    Args:
      dataset: a Grain ``MapDataset`` of batches.
      workers: processes; 0 is threads.
      ahead: batches made ahead (per worker).

    >>> import grain
    >>> [batch for batch in prefetched(grain.MapDataset.range(3), workers=0, ahead=2)]
    [0, 1, 2]
    """
    import grain

    if workers == 0:
        return dataset.to_iter_dataset(grain.ReadOptions(num_threads=min(ahead, 2), prefetch_buffer_size=ahead))
    from absl import flags

    if not flags.FLAGS.is_parsed():  # Grain reads one of its flags before it starts workers
        flags.FLAGS.mark_as_parsed()
    return _Parcels(dataset, workers, ahead)


class _Parcels(Iterator[Batch]):
    """Iterate in order over batches made by worker processes.

    A worker leaves each batch in a file and sends only its name. Through Grain's pipe a large batch that nobody takes
    any more would keep its worker from ending, until Grain kills it after 25 seconds; shared memory is often limited to
    64 MB (containers), and what was made ahead would stay there.
    """

    def __init__(self, dataset: Any, workers: int, ahead: int) -> None:
        import grain

        folder = tempfile.mkdtemp(prefix="jaxseg-batches-")
        self._drop = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        names = dataset.map(functools.partial(_packed, folder))
        names = names.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=max(ahead, 1))
        watch = functools.partial(_end_with_parent, folder)
        self._names = iter(names.mp_prefetch(processes, worker_init_fn=watch))

    def __next__(self) -> Batch:
        name = next(self._names)
        with open(name, "rb") as file:
            batch = pickle.load(file)
        os.unlink(name)
        return batch

    def close(self) -> None:
        """Stop the workers and drop prefetched batches."""
        self._names.close()
        self._drop()


def _packed(folder: str, batch: Batch) -> str:
    name = os.path.join(folder, uuid.uuid4().hex)
    with open(name, "wb") as file:
        pickle.dump(batch, file, protocol=pickle.HIGHEST_PROTOCOL)
    return name


def _end_with_parent(folder: str, worker: int, workers: int) -> None:
    """Exit the worker when its parent dies, even if the parent was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
