"""Several data sets as one, each with the labels of some tasks of :class:`jaxseg.tasks.multitask.MultiTask`.

Few data sets have the labels of all tasks that a network is to learn. Here every example has those of its own data
set's tasks; ``task/present`` says so, and what it lacks is filled up with blanks that no task looks at.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from jaxseg.data import records
from jaxseg.data.examples import DataDir, Examples, Source
from jaxseg.data.facts import Facts
from jaxseg.data.records import Record
from jaxseg.data.transforms import Canvas, Transform
from jaxseg.errors import BadInput, pick
from jaxseg.types import BATCH, Key, key_of


@dataclass(frozen=True)
class Part:
    """A data set of a mixture.

    Attributes:
      source: what is read.
      tasks: whose labels it has.
      times: how often an epoch of training has each of its examples.

    >>> Part(Source("voc", "train"), ("semantic", "boundary")).times
    1
    """

    source: Source
    tasks: tuple[str, ...]
    times: int = 1


@dataclass(frozen=True)
class Mixture:
    """Data sets one after another: what stands in the place of a source in :class:`jaxseg.data.pipeline.Data`.

    A key ``task/key`` is read of the data sets that have the task, and a key without a task of all. Training shuffles
    all examples together; evaluation runs through the data sets in their order, and a task's figures are those of its
    own examples. ``index`` counts on from one data set to the next.

    Attributes:
      parts: the data sets.

    >>> both = Mixture((Part(Source("voc", "train"), ("seg",)), Part(Source("nyuv2", "train"), ("depth",), times=2)))
    >>> both.tasks
    ('seg', 'depth')
    """

    parts: tuple[Part, ...]

    def __post_init__(self):
        wrong = [part.source.dataset for part in self.parts if not part.tasks or part.times < 1]
        if not self.parts or wrong:
            told = f"of {wrong[0]!r} that is not so" if wrong else "here there are no data sets"
            raise BadInput(f"every data set of a mixture has a task and comes once or more often in an epoch; {told}")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task that a data set has labels of."""
        return tuple(dict.fromkeys(task for part in self.parts for task in part.tasks))

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """Transforms of the first data set, by which new images are prepared too."""
        return self.parts[0].source.transforms

    @property
    def dataset(self) -> str:
        """Names of the data sets."""
        return "+".join(part.source.dataset for part in self.parts)

    def rooted(self) -> "Mixture":
        """Return the same with whole paths of folders, so that they are found from any directory."""
        return self._with(Source.rooted)

    def of_split(self, split: str) -> "Mixture":
        """Return another split of every data set."""
        return self._with(lambda source: source.of_split(split))

    def once(self) -> "Mixture":
        """Return the same with each example once, as in evaluation."""
        return replace(self, parts=tuple(replace(part, times=1) for part in self.parts))

    def seen_as(self, other: "Source | Mixture") -> "Mixture":
        """Return these examples with the transforms of others, of the data set in the same place."""
        if isinstance(other, Source):
            return self._with(lambda source: source.seen_as(other))
        if len(other.parts) != len(self.parts):
            raise BadInput(f"{self.dataset} cannot have the transforms of {other.dataset}: give both as many data sets")
        seen = [part.source.seen_as(of.source) for part, of in zip(self.parts, other.parts, strict=True)]
        return replace(self, parts=tuple(map(_with_source, self.parts, seen)))

    def facts(self, data_dir: DataDir = None) -> Facts:
        """Return the facts of the first data set, with all keys and the classes of every task (``Facts.tables``).

        Objects are those of the first data set that has any.
        """
        known = [(part.tasks, part.source.facts(data_dir)) for part in self.parts]
        first, all_facts = known[0][1], [facts for _, facts in known]
        tables = {task: facts.classes for tasks, facts in reversed(known) for task in tasks if facts.classes}
        things = next((facts for facts in all_facts if facts.things), first)
        return replace(
            first,
            keys=tuple(dict.fromkeys(key for facts in all_facts for key in facts.keys)),
            things=things.things,
            thing_palette=things.thing_palette,
            thing_ids=things.thing_ids,
            tables={**tables, **first.tables},
        )

    def _with(self, change: Callable[[Source], Source]) -> "Mixture":
        return replace(self, parts=tuple(_with_source(part, change(part.source)) for part in self.parts))


def _with_source(part: Part, source: Source) -> Part:
    return replace(part, source=source)


@dataclass(frozen=True)
class Mixed:
    """The examples of a mixture, numbered through, with the same methods as :class:`jaxseg.data.examples.Examples`.

    >>> import tempfile
    >>> tiny = (("size", 8), ("train", 3), ("val", 2))
    >>> labels, depth = (Source("scenes", split, (), tiny) for split in ("train", "val"))
    >>> both = Mixture((Part(labels, ("seg",)), Part(depth, ("depth",))))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     make = functools.partial(Examples, slots=1, proposal_slots=1, data_dir=folder, seed=0)
    ...     examples = Mixed.of(both, ("image", "seg/label", "depth/depth"), make)
    ...     row = examples.transformed(0, examples[4])
    >>> len(examples), row["depth/present"].item(), row["seg/present"].item(), row["seg/label"][0, 0].item()
    (5, True, False, 255)

    Attributes:
      source: the mixture.
      keys: what a row of a batch holds.
      parts: the examples of each data set.
      ends: one more than the number of each data set's last example.
    """

    source: Mixture
    keys: tuple[str, ...]
    parts: tuple[Examples, ...]
    ends: tuple[int, ...] = field(init=False, compare=False)

    @classmethod
    def of(cls, mixture: Mixture, keys: Sequence[str], make: Callable[..., Examples]) -> "Mixed":
        """Return the examples of a mixture.

        Args:
          mixture: the data sets.
          keys: what a batch holds.
          make: examples of a source, given its keys.

        Raises:
          BadInput: a key is of a task that no data set has.
        """
        for name in keys:
            task = name.rpartition("/")[0]
            if task:
                pick(dict.fromkeys(mixture.tasks), task, "task of the mixture")
        parts = []
        for part in mixture.parts:
            own = tuple(name for name in keys if "/" not in name or name.rpartition("/")[0] in part.tasks)
            parts.append(replace(make(part.source, own), tasks=part.tasks))
        return cls(mixture, tuple(keys), tuple(parts))

    def __post_init__(self):
        sizes = [len(part) * of.times for part, of in zip(self.parts, self.source.parts, strict=True)]
        object.__setattr__(self, "ends", tuple(np.cumsum(sizes).tolist()))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: Any) -> tuple[int, Record]:
        number, local = self._place(int(index))
        return int(index), self.parts[number][local][1]

    def check(self) -> None:
        """Open every data set.

        Raises:
          BadInput: as :meth:`jaxseg.data.examples.Examples.check`; or the data sets go on different canvases.
        """
        for part in self.parts:
            part.check()
        if len({part.canvas for part in self.parts}) > 1:
            raise BadInput(f"the data sets of {self.source.dataset} go on different canvases; give all the same Canvas")

    def transformed(self, position: int, numbered: tuple[int, Record]) -> Record:
        """Transform an example for a batch; its ``position`` in the stream seeds everything random."""
        index, record = numbered
        number, local = self._place(index)
        part = self.parts[number]
        row = part.transformed(position, (local, record))
        if "index" in row:
            row["index"] = np.asarray(index, row["index"].dtype)
        size = records.size(row)
        lacking = {name: key for name, key in self._blanks.items() if name not in row}
        row |= {name: _blank(key, size, lengths) for name, (key, lengths) in lacking.items()}
        return row | {f"{task}/present": np.asarray(task in part.tasks) for task in self.source.tasks}

    @property
    def canvas(self) -> Canvas | None:
        """The canvas of all data sets."""
        return self.parts[0].canvas

    def canvases(self) -> np.ndarray | None:
        """Return which canvas each example goes on, i64[examples]; None without canvases, or with one alone."""
        found = [part.canvases() for part in self.parts]
        return None if found[0] is None else self._joined(found)

    def sizes(self) -> np.ndarray:
        """Return i32[examples 2], height and width of every image as it is read."""
        return self._joined([part.sizes() for part in self.parts])

    def ordered(self, order: Any, position: int) -> Record:
        """Return the transformed example at that position of an order of examples."""
        return self.transformed(position, self[order[position]])

    def _joined(self, rows: Sequence[Any]) -> np.ndarray:
        times = [part.times for part in self.source.parts]
        return np.concatenate([np.concatenate([row] * often) for row, often in zip(rows, times, strict=True)])

    def _place(self, index: int) -> tuple[int, int]:
        """Return the data set of an example, and its number there."""
        number = int(np.searchsorted(self.ends, index, side="right"))
        begin = self.ends[number - 1] if number else 0
        return number, (index - begin) % len(self.parts[number])

    @functools.cached_property
    def _blanks(self) -> dict[str, tuple[Key, Mapping[str, int]]]:
        """What a row may lack, with the lengths of its axes."""
        found = {}
        for part in self.parts:
            lengths = {"n": part.slots, "p": part.proposal_slots, "r": part.rle_bytes, "j": len(part.facts.joints)}
            own = [name for name in records.with_masks(part.keys) if "/" in name]
            found |= {name: (key_of(BATCH, name), lengths) for name in own}
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_blanks"}


def _blank(key: Key, size: tuple[int, int], lengths: Mapping[str, int]) -> np.ndarray:
    """Return an array of a key that holds nothing."""
    known = {"h": size[0], "w": size[1], **lengths}
    shape = tuple(int(letter) if letter.isdigit() else known[letter] for letter in key.letters[1:])
    return np.broadcast_to(np.asarray(key.fill or 0, key.dtypes[0]), shape).copy()
