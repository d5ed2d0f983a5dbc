"""The page about data sets of one's own, followed from an empty folder to a batch."""

import re
import sys

import numpy as np
import pytest
import tifffile

from jaxseg.data import Data, Source, sets
from jaxseg.data.records import encode_png
from jaxseg.data.statistics import measure_bands
from jaxseg.errors import BadInput
from tests.laws.tree import ROOT


@pytest.fixture
def fields(tmp_path, monkeypatch):
    """The page's file where data sets are found, and a source folder of its layout."""
    page = (ROOT / "docs" / "add-a-dataset.md").read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "fields.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(sets, "__path__", [*sets.__path__, str(tmp_path / "sets")])
    source = tmp_path / "fields"
    for split, count in (("train", 3), ("val", 2)):
        (source / split).mkdir(parents=True)
        for index in range(count):
            tifffile.imwrite(
                source / split / f"{index}.tif", image(index), photometric="minisblack", planarconfig="contig"
            )
            (source / split / f"{index}.png").write_bytes(encode_png(np.full((6, 8), index, np.uint8)))
    yield source
    sets.find.cache_clear()
    sys.modules.pop("jaxseg.data.sets.fields", None)


def image(index):
    return np.random.default_rng(index).integers(0, 65536, (6, 8, 5)).astype(np.uint16)


def test_the_pages_data_set_is_found_prepared_and_batched(fields, tmp_path, jaxseg):
    done = jaxseg("data", "prepare", "fields", "--source", fields, "--data-dir", tmp_path / "prepared")
    assert "fields is ready" in done.out, done.err
    source = Source("fields", "val")
    (batch,) = Data(train=source, val=source).eval_batches(batch_size=2, data_dir=tmp_path / "prepared")
    np.testing.assert_array_equal(batch["image"], [image(0), image(1)])
    assert batch["label"][:, 0, 0].tolist() == [0, 1]
    train = sets.open_split("fields", "train", data_dir=tmp_path / "prepared")
    expected = np.concatenate([image(i).reshape(-1, 5) for i in range(3)])
    np.testing.assert_allclose(measure_bands(train).mean, expected.mean(0))


def test_the_pages_data_set_refuses_an_empty_folder(fields, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"holds no train/\*.tif; a folder with train/ and val/"):
        sets.prepare("fields", source=tmp_path / "empty", data_dir=tmp_path / "prepared")
