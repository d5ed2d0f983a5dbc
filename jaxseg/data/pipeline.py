"""Turn data sets into batches: ``Data`` describes them in a recipe, ``Batches`` is the training stream.

The order of examples is one global stream, a fresh shuffle per epoch, of which process ``i`` of ``n`` takes every n-th
element: the examples of a step do not depend on the number of processes. Every example's randomness is seeded by its
position in that stream, so the stream does not depend on the number of workers either, and going on from batch k
needs nothing but k. Batches run across the end of an epoch, so that every training batch is full. With the transform
``Canvas`` every batch is of one canvas, in the order of :mod:`jaxseg.data.canvases`, with the same properties.
"""

import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxseg.data import records
from jaxseg.data.canvases import CanvasOrder, eval_order
from jaxseg.data.examples import DataDir, Examples, Source
from jaxseg.data.facts import Facts
from jaxseg.data.mixture import Mixed, Mixture
from jaxseg.data.prefetch import Batch, prefetched
from jaxseg.data.records import Record
from jaxseg.data.sizes import check_sizes, follows_from_size
from jaxseg.errors import BadInput

_ENDLESS = 2**32
"""Epochs. Grain's own endless repetition has a length that overflows when it is sliced or made into batches of one."""


@dataclass(frozen=True)
class Data:
    """The data of one training stage.

    Attributes:
      train: what is trained on; a :class:`jaxseg.data.mixture.Mixture` where each task has data sets of its own.
      val: what is evaluated during and after training.
      workers: processes that load and transform; 0 does it in threads of this process. The stream is the same.
      keys: what a batch holds (see :data:`jaxseg.types.BATCH`), ``real`` comes on top. The pipeline itself gives
        ``size``, ``original_size``, ``extent`` and ``index``, and ``area`` and ``rle`` where the data set has id maps
        but not these; ``parts/label`` is the record's own key of that name, or
        else its ``label``.
      slots: objects per image, where objects are asked for; of more, the largest are kept
        (:mod:`jaxseg.data.slots`).
      proposal_slots: proposals per image, where proposals are asked for.
      prefetch: batches made ahead (per worker).
      test: evaluated by name only; the default is ``val`` with the split "test".
      rle_bytes: bytes per image for exact masks, where ``rle`` is asked for.

    >>> import tempfile
    >>> tiny = (("size", 8), ("train", 3), ("val", 2))
    >>> data = Data(train=Source("scenes", "train", (), tiny), val=Source("scenes", "val", (), tiny))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (batch,) = data.eval_batches(batch_size=2, data_dir=folder)
    >>> sorted(batch), batch["image"].shape
    (['image', 'label', 'real'], (2, 8, 8, 3))
    """

    train: Source | Mixture
    val: Source | Mixture
    workers: int = 0
    keys: tuple[str, ...] = ("image", "label")
    slots: int = 16
    prefetch: int = 2
    test: Source | Mixture | None = None
    proposal_slots: int = records.PROPOSAL_SLOTS
    rle_bytes: int = records.RLE_BYTES

    def train_batches(
        self, *, batch_size: int, seed: int, data_dir: DataDir = None, shard: tuple[int, int] = (0, 1)
    ) -> "Batches":
        """Return the infinite stream of this process's training batches.

        Args:
          batch_size: rows per batch of this process.
          seed: of the shuffles and of the transforms.
          data_dir: where prepared data lie; None is :func:`jaxseg.files.default_data_dir`.
          shard: this process's number and the number of processes.

        Raises:
          BadInput: the data set is not prepared or has no such split.
        """
        examples = self._examples(self.train, data_dir, seed)
        return Batches(
            examples, batch_size=batch_size, seed=seed, shard=shard, workers=self.workers, ahead=self.prefetch
        )

    def eval_batches(
        self,
        *,
        batch_size: int,
        split: str | None = None,
        data_dir: DataDir = None,
        shard: tuple[int, int] = (0, 1),
        limit: int | None = None,
    ) -> "EvalBatches":
        """Return one pass over a split in order; the last batch is filled up with repeated rows, ``real`` false.

        Args:
          batch_size: rows per batch of this process.
          split: None or "val", "train" (with the transforms of ``val``), "test", or any split of ``val``'s data set.
          data_dir: where prepared data lie.
          shard: this process's number and the number of processes; all of them get equally many batches.
          limit: only so many examples, evenly spread over the split: neighbours in it are often frames of one film.

        Raises:
          BadInput: the data set is not prepared or has no such split.
        """
        examples = self._examples(self.eval_source(split), data_dir, 0)
        total = len(examples) if limit is None else min(limit, len(examples))
        return EvalBatches(examples, total, batch_size, shard, self.workers, self.prefetch)

    def eval_examples(
        self, numbers: Iterable[int], *, split: str | None = None, data_dir: DataDir = None
    ) -> Iterator[Batch]:
        """Yield examples of a split by their numbers, ``index``, each as a batch of one row.

        Args:
          numbers: from 0.
          split: as :meth:`eval_batches` names it.
          data_dir: where prepared data lie.

        Raises:
          BadInput: the data set is not prepared or has no such split.
        """
        examples = self._examples(self.eval_source(split), data_dir, 0)
        for number in numbers:
            yield _stack([examples.transformed(number, examples[number])])

    def rooted(self) -> "Data":
        """Return the same data with whole paths of folders, so that they are found from any directory.

        >>> source = Source("folder:/data/cells", "train")
        >>> Data(train=source, val=source).rooted().train == source
        True
        """
        train, val, test = (None if source is None else source.rooted() for source in (self.train, self.val, self.test))
        assert train is not None
        assert val is not None
        return replace(self, train=train, val=val, test=test)

    def facts(self, data_dir: DataDir = None) -> Facts:
        """Return the facts of the data set that is evaluated on; your own annotations' lie beside the prepared data."""
        return self.val.facts(data_dir)

    def eval_source(self, split: str | None) -> Source | Mixture:
        """Return the source of a split as :meth:`eval_batches` names it."""
        if split is None or split == "val":
            found = self.val
        elif split == "train":
            found = self.train.seen_as(self.val)
        elif split == "test" and self.test is not None:
            found = self.test
        else:
            found = self.val.of_split(split)
        return found.once() if isinstance(found, Mixture) else found

    def _examples(self, source: Source | Mixture, data_dir: DataDir, seed: int) -> Examples | Mixed:
        where = None if data_dir is None else os.fspath(data_dir)
        make = functools.partial(
            Examples,
            slots=self.slots,
            proposal_slots=self.proposal_slots,
            data_dir=where,
            seed=seed,
            rle_bytes=self.rle_bytes,
        )
        examples = Mixed.of(source, self.keys, make) if isinstance(source, Mixture) else make(source, self.keys)
        examples.check()
        return examples


class Batches(Iterator[Batch]):
    """Infinite, resumable stream of batches; its state can be saved at any step.

    >>> import tempfile
    >>> tiny = (("size", 8), ("train", 3), ("val", 2))
    >>> data = Data(train=Source("scenes", "train", (), tiny), val=Source("scenes", "val", (), tiny))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     batches = data.train_batches(batch_size=2, seed=0, data_dir=folder)
    ...     _ = next(batches)
    ...     batches.close()
    >>> batches.get_state()
    {'batches': 1}
    """

    def __init__(
        self,
        examples: Examples | Mixed,
        *,
        batch_size: int,
        seed: int,
        shard: tuple[int, int],
        workers: int,
        ahead: int,
    ):
        import grain

        index, count = shard
        groups = examples.canvases()
        if groups is None:
            order = int(np.random.SeedSequence((seed, 0)).generate_state(1)[0])
            stream = grain.MapDataset.source(examples).shuffle(seed=order).repeat(_ENDLESS)
            stream = stream.map_with_index(examples.transformed)[index::count]
        else:
            order = CanvasOrder(groups, batch_size * count, seed)
            stream = grain.MapDataset.range(len(examples) * _ENDLESS)[index::count]
            stream = stream.map(functools.partial(examples.ordered, order))
        self._dataset = stream.batch(batch_size, batch_fn=_stack)
        self._workers, self._ahead, self._rows = workers, ahead, batch_size
        self._taken = 0
        self._iterator: Any = None

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Batch:
        if self._iterator is None:
            self._iterator = iter(prefetched(self._dataset[self._taken :], self._workers, self._ahead))
        batch = next(self._iterator)
        self._taken += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """Return the position as JSON: batches prefetched but not yet taken do not count."""
        return {"batches": self._taken}

    def set_state(self, state: dict[str, int]) -> None:
        """Continue from a state: the next batch is the one that would have come next when it was saved.

        ``{"rows": n}`` continues after so many rows of this process, where the batches before were of another size.
        """
        self.close()
        self._taken = state["rows"] // self._rows if "rows" in state else int(state["batches"])

    def close(self) -> None:
        """Stop the workers; the next batch restarts them."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None


class EvalBatches(Iterable[Batch]):
    """One pass over a split, iterable repeatedly. ``len`` is the number of batches, equal on every process.

    >>> import tempfile
    >>> tiny = (("size", 8), ("train", 3), ("val", 2))
    >>> data = Data(train=Source("scenes", "train", (), tiny), val=Source("scenes", "val", (), tiny))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(data.eval_batches(batch_size=2, split="train", data_dir=folder))
    2
    """

    def __init__(
        self, examples: Examples | Mixed, total: int, batch_size: int, shard: tuple[int, int], workers: int, ahead: int
    ):
        import grain

        index, count = shard
        rows = -(-total // count)
        self._length = -(-rows // batch_size)
        groups, every = examples.canvases(), slice(None, None, max(1, len(examples) // max(1, total)))
        if groups is None:
            _check_sizes(examples, np.arange(len(examples))[every][:total].tobytes(), batch_size * count)
            spread = grain.MapDataset.source(examples)[every][:total]
            stream = spread.repeat(_ENDLESS).map_with_index(examples.transformed)
            stream = stream.map_with_index(functools.partial(_mark_real, np.ones(total, bool)))[index::count]
        else:
            spread = np.arange(len(examples))[every][:total]
            order, real = eval_order(groups[spread], spread, batch_size * count)
            self._length = len(order) // (batch_size * count)
            stream = grain.MapDataset.range(len(order)).map(functools.partial(examples.ordered, order))
            stream = stream.map_with_index(functools.partial(_mark_real, real))[index::count]
        self._dataset = stream.batch(batch_size, batch_fn=_stack)[: self._length]
        self._workers, self._ahead = workers, ahead

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        iterator = iter(prefetched(self._dataset, self._workers, self._ahead))
        try:
            yield from itertools.islice(iterator, self._length)
        finally:
            iterator.close()


@functools.lru_cache(maxsize=64)
def _check_sizes(examples: Examples | Mixed, chosen: bytes, batch_size: int) -> None:
    """Check once per process what cannot be stacked: it is evaluated again and again, and sizes may cost a reading."""
    source = examples.source
    if batch_size > 1 and isinstance(source, Source) and follows_from_size(source.transforms):
        numbers = np.frombuffer(chosen, np.int64)
        check_sizes(source.transforms, examples.sizes(), numbers, batch_size, f"{source.dataset}/{source.split}")


def _mark_real(real: np.ndarray, position: int, record: Record) -> Record:
    return {**record, "real": np.asarray(position < len(real) and real[position])}


def _stack(rows: Sequence[Record]) -> Batch:
    batch: Batch = {}
    for key in rows[0]:
        shapes = {row[key].shape for row in rows}
        if len(shapes) > 1:
            raise BadInput(
                f"{key!r} has several shapes in one batch: {', '.join(str(list(s)) for s in sorted(shapes))}; "
                "end the transforms with RandomCrop, Resize, PadTo or Canvas; evaluation may use eval_batch_size=1"
            )
        batch[key] = np.stack([row[key] for row in rows])
    batch.setdefault("real", np.ones(len(rows), bool))
    return batch
