"""The examples of a source: a split of a data set, read and transformed one by one."""

import functools
import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxseg.data import records, sets, slots
from jaxseg.data.facts import Facts
from jaxseg.data.records import Record
from jaxseg.data.transforms import Canvas, RandomFlip, RandomRotate90, Transform
from jaxseg.errors import BadInput
from jaxseg.types import bare_key, closure

DataDir = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Source:
    """A split of a data set and the transforms applied to it, in order. ``options`` go to the data set's builder.

    Attributes:
      dataset: a name of ``jaxseg data list``; ``folder:PATH`` for a folder of images and masks
        (:mod:`jaxseg.data.folders`); or ``my_module:Cells`` for a class of your own (:mod:`jaxseg.data.own`).
      split: "train", a slice such as "train[:20]", or a sum such as "train+val".
      transforms: applied in order.
      options: pairs of name and value.

    >>> Source("camvid", "train[:20]").transforms
    ()
    """

    dataset: str
    split: str
    transforms: tuple[Transform, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    def rooted(self) -> "Source":
        """Return the same with the whole path of a folder, so that it is found from any directory."""
        return replace(self, dataset=sets.rooted(self.dataset))

    def of_split(self, split: str) -> "Source":
        """Return another split of the data set."""
        return replace(self, split=split)

    def seen_as(self, other: Any) -> "Source":
        """Return these examples with the transforms of others."""
        return replace(self, transforms=other.transforms)

    def facts(self, data_dir: DataDir = None) -> Facts:
        """Return the facts of the data set, your own annotations' where they lie beside the prepared data."""
        return sets.facts(self.dataset, data_dir=data_dir, options=self.options)


@dataclass(frozen=True)
class Examples:
    """Examples of a source; files are opened on first access, in the process that reads them.

    Attributes:
      source: what is read.
      keys: what a row of a batch holds.
      slots, proposal_slots, rle_bytes: lengths of rows, as :class:`jaxseg.data.pipeline.Data` has them.
      data_dir: where prepared data lie.
      seed: of the transforms.
      tasks: of whose own label maps (``parts/label``) the data set's classes are.

    >>> import tempfile
    >>> tiny = (("size", 8), ("train", 3), ("val", 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(Examples(Source("scenes", "train", (), tiny), ("image",), 16, 16, folder, 0))
    3
    """

    source: Source
    keys: tuple[str, ...]
    slots: int
    proposal_slots: int
    data_dir: str | None
    seed: int
    rle_bytes: int = records.RLE_BYTES
    tasks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> tuple[int, Record]:
        try:
            return int(index), self._records[index]
        except BadInput as error:
            raise BadInput(f"{self._where(index)}: {error}") from error
        except (OSError, ValueError, SyntaxError, EOFError) as error:  # what decoders raise
            words = " ".join(f"{type(error).__name__}: {error}".split())
            raise BadInput(f"{self._where(index)} cannot be read: {words}; prepare the data set anew") from error

    def check(self) -> None:
        """Open the data set, so that a recipe's mistake shows here and not in a worker.

        Raises:
          BadInput: it is not prepared or has no such split; or a transform mirrors images and leaves a left joint's
            number to what is a right one then.
        """
        len(self)
        if not self.facts.joint_pairs or "keypoints" not in {bare_key(key) for key in self.keys}:
            return
        for transform in self.source.transforms:
            if isinstance(transform, RandomRotate90) or (isinstance(transform, RandomFlip) and not transform.swap):
                raise BadInput(
                    f"data set {self.source.dataset!r} has left and right joints, which change places in a mirror "
                    f"image, but {transform} does not exchange them: RandomFlip(swap={self.facts.joint_pairs}) does"
                )

    def transformed(self, position: int, numbered: tuple[int, Record]) -> Record:
        """Transform an example for a batch; its ``position`` in the stream seeds everything random."""
        index, record = numbered
        rng = np.random.default_rng((self.seed, position))
        where = self._where(index)
        record = self._placed(index, record)
        for transform in self.source.transforms:
            try:
                record = transform(record, rng)
            except BadInput as error:
                raise BadInput(f"{where}: {error}") from error
            except KeyError as error:
                raise BadInput(f"{where} has no {error}, which {type(transform).__name__} needs") from error
        done = records.to_batch_row(
            record,
            keys=self.keys,
            slots=self.slots,
            proposal_slots=self.proposal_slots,
            rle_bytes=self.rle_bytes,
            where=where,
        )
        records.validate(done, where=where, limits=self.limits)
        return done

    def _where(self, index: Any) -> str:
        return f"{self.source.dataset}/{self.source.split}[{index}]"

    def _placed(self, index: int, record: Record) -> Record:
        """Add the requested keys that the pipeline itself fills, of the image as it was read."""
        wanted = {bare_key(name) for name in closure(self.keys)}
        height, width = records.size(record)
        known = {
            "index": np.asarray(index, np.int64),
            "original_size": np.asarray([height, width], np.int32),
            "extent": np.asarray([0, 0, width, height], np.float32),
        }
        if "area" in wanted and "area" not in record and "boxes" in record:
            known["area"] = slots.areas(record)
        if "rle" in wanted and "rle" not in record and "instance_ids" in record and "boxes" in record:
            known["rle"] = slots.masks_as_text(record)
        if self.canvas is not None:
            wanted.add("original_size")
        return {**record, **{key: value for key, value in known.items() if key in wanted}}

    @property
    def canvas(self) -> Canvas | None:
        """The canvas among the transforms; the first, if there are several."""
        return next((transform for transform in self.source.transforms if isinstance(transform, Canvas)), None)

    def canvases(self) -> np.ndarray | None:
        """Return which canvas each example goes on, i64[examples]; None without canvases, or with one alone."""
        canvas = self.canvas
        if canvas is None or len(canvas.sizes) == 1:
            return None
        shapes, inverse = np.unique(self.sizes(), axis=0, return_inverse=True)
        chosen = np.asarray([canvas.choose(height, width) for height, width in shapes.tolist()], np.int64)
        return chosen[inverse.reshape(-1)]

    def sizes(self) -> np.ndarray:
        """Return i32[examples 2], height and width of every image as it is read."""
        return np.asarray(self._records.sizes())

    def ordered(self, order: Any, position: int) -> Record:
        """Return the transformed example at that position of an order of examples."""
        return self.transformed(position, self[order[position]])

    @functools.cached_property
    def facts(self) -> Facts:
        """Facts of the data set."""
        return self.source.facts(self.data_dir)

    @functools.cached_property
    def limits(self) -> dict[str, int]:
        """Lengths of the tables that values index: the data set's, which are those of its tasks too."""
        limits = self.facts.limits
        own = {f"{task}/{table}": limits[table] for task in self.tasks for table in ("classes", "things")}
        return {**own, **limits}

    @functools.cached_property
    def _records(self) -> Any:
        source = self.source
        wanted = closure(("image", *self.keys))
        return sets.open_split(
            source.dataset, source.split, keys=wanted, data_dir=self.data_dir, options=source.options
        )

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_records", "limits", "facts")}
