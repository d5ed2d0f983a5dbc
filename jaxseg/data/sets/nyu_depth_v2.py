"""NYU Depth v2, raw frames: 47,584 of the 249 training scenes and the 654 labelled test images, 640x480, with depth.

The selection of Ma and Karaman 2018 that TensorFlow Datasets calls by the same name. Source folder: what their archive
``nyudepthv2.tar.gz`` unpacks to, ``train/SCENE/NUMBER.h5`` and ``val/official/NUMBER.h5``, read through h5py; each file
has ``rgb`` [3 480 640] and ``depth`` [480 640] in metres. Depth 0 is unknown.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.hdf5 import opened
from jaxseg.data.listing import walk
from jaxseg.data.records import Record, decode_image, encode_png
from jaxseg.errors import BadInput

GENERATED = False
ENCODED = ("image",)

FACTS = Facts(
    name="nyu_depth_v2",
    summary="NYU Depth v2: 48,000 indoor frames of 640x480 with depth",
    classes=(),
    palette=(),
    splits={"train": 47584, "val": 654},
    keys=("image", "depth", "depth_valid"),
    licence="research",
    url="https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html",
    source="the folder that nyudepthv2.tar.gz of http://datasets.lids.mit.edu/fastdepth/data unpacks to",
    citation="Silberman, Hoiem, Kohli, Fergus, ECCV 2012; Ma, Karaman, ICRA 2018",
)


class NyuDepthV2(LocalBuilder):
    """Write both splits in the order of the files' names.

    >>> NyuDepthV2.FACTS.keys
    ('image', 'depth', 'depth_valid')
    """

    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Return image as PNG, depth as compressed numbers, and the file's name."""
        numbers = {"dtype": np.float32, "encoding": tfds.features.Encoding.ZLIB}
        return {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "depth": tfds.features.Tensor(shape=(None, None), **numbers),
            "id": tfds.features.Text(),
        }

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return train and val.

        Raises:
          BadInput: there are no such files, or h5py is not installed.
        """
        assert source is not None
        root = source / "nyudepthv2" if (source / "nyudepthv2").is_dir() else source
        splits = {}
        for split in FACTS.splits:
            files = [path for path in walk(root / split) if path.endswith(".h5")] if (root / split).is_dir() else []
            if not files:
                raise BadInput(f"there is no h5 file in {root / split}; {FACTS.source}")
            splits[split] = (len(files), _examples(root / split, files))
        return splits


Builder = NyuDepthV2


def to_record(example: Mapping[str, Any]) -> Record:
    """Return the record of what was read, with where depth is known.

    >>> to_record({"depth": np.asarray([[0.0, 2.0]], np.float32)})["depth_valid"].tolist()
    [[False, True]]
    """
    record = {key: decode_image(value) if key in ENCODED else value for key, value in example.items()}
    if "depth" in record:
        record["depth_valid"] = record["depth"] > 0
    return record


def _examples(root: Path, files: Sequence[str]) -> Iterator[dict[str, Any]]:
    for path in files:
        with opened(root / path) as file:
            if "rgb" not in file or "depth" not in file:
                raise BadInput(f"{root / path} has no 'rgb' and 'depth'; {FACTS.source}")
            image, depth = np.asarray(file["rgb"]), np.asarray(file["depth"], np.float32)
        yield {
            "image": io.BytesIO(encode_png(np.ascontiguousarray(image.transpose(1, 2, 0)))),
            "depth": np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0)),
            "id": path,
        }
