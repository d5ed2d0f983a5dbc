"""Region proposals for records: selective search, or boxes from a file. Reached through ``transforms``."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxseg.data.records import Record
from jaxseg.data.selective_search import selective_search
from jaxseg.errors import BadInput
from jaxseg.files import atomic, cache_dir


@dataclass(frozen=True)
class SelectiveSearch:
    """Add ``proposals``, the boxes of selective search; before all that moves the image.

    Attributes:
      width: the image is searched at so many columns, at most, R-CNN's 500; fewer are left as they are.
      scales: see :func:`jaxseg.data.selective_search.selective_search`.
      sigma: likewise.
      min_width: of boxes, in pixels of the searched image.
      most: boxes of an image, tops of the trees first.
      cached: whether boxes are kept in jaxseg's cache, by what the image holds.

    >>> image = np.zeros((40, 60, 3), np.uint8)
    >>> image[10:30, 20:50] = 200
    >>> search = SelectiveSearch(min_width=4, cached=False)
    >>> search({"image": image}, np.random.default_rng(0))["proposals"].shape[1]
    4
    """

    width: int = 500
    scales: tuple[float | int, ...] = (50, 100)
    sigma: float = 0.8
    min_width: int = 20
    most: int = 2000
    cached: bool = True

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record with ``proposals`` f32[p 4]."""
        del rng
        image = record["image"]
        place = self._place(image) if self.cached else None
        if place is not None and place.is_file():
            return {**record, "proposals": np.load(io.BytesIO(place.read_bytes()))}
        boxes = self._search(image)
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            with atomic(place) as path, path.open("wb") as file:
                np.save(file, boxes)
        return {**record, "proposals": boxes}

    def _search(self, image: np.ndarray) -> np.ndarray:
        from PIL import Image

        height, width = image.shape[:2]
        scale = min(self.width / width, 1.0)
        if scale < 1:
            size = (self.width, max(round(height * scale), 1))
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        found = selective_search(image, scales=self.scales, sigma=self.sigma, min_width=self.min_width)[: self.most]
        back = np.asarray([width / image.shape[1], height / image.shape[0]] * 2, np.float32)
        return found * back

    def _place(self, image: np.ndarray) -> Path | None:
        folder = cache_dir()
        if folder is None:
            return None
        digest = hashlib.sha256(repr((self, image.shape)).encode() + np.ascontiguousarray(image).tobytes())
        return folder / "proposals" / f"{digest.hexdigest()[:32]}.npy"


@dataclass(frozen=True)
class ProposalsFrom:
    """Add ``proposals`` from an .npz file: one array [p 4] for each image, under its number in the split.

    Reads ``index``, which the pipeline gives where a batch is to hold it. Boxes are x0 y0 x1 y1, half-open, in pixels
    of the image as it is read: the authors' files of selective search, in MATLAB's order y1 x1 y2 x2 from 1, become
    ``np.c_[b[:, 1] - 1, b[:, 0] - 1, b[:, 3], b[:, 2]]``.

    Attributes:
      path: of the file.
      most: boxes of an image, the first ones.

    >>> ProposalsFrom("boxes.npz").most
    2000
    """

    path: str
    most: int = 2000

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record with ``proposals`` f32[p 4].

        Raises:
          BadInput: the file is missing or none, or has no or other boxes for the image.
        """
        del rng
        number = str(int(record["index"]))
        try:
            with np.load(self.path) as file:
                boxes = file[number] if number in file.files else None
        except (OSError, ValueError) as error:
            raise BadInput(f"proposals of {self.path!r}: {error}; give an .npz file with an array per image") from error
        if boxes is None:
            raise BadInput(f"proposals of {self.path!r}: there are none for image {number}")
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
            raise BadInput(f"proposals of {self.path!r}: those of image {number} are {list(boxes.shape)}, not [p, 4]")
        return {**record, "proposals": boxes[: self.most].astype(np.float32)}
