"""A data set class of the user's own, beside the recipe's file, in this process and in workers."""

import os
import subprocess
import sys
import textwrap

import pytest

from jaxseg.data import Data, Source, sets
from jaxseg.errors import BadInput

MODULE = '''
import numpy as np

class Cells:
    """Cells of two sizes."""
    classes = ("background", "cell")
    splits = {"train": 3, "val": 2}

    def __init__(self, split, size=4):
        self.count, self.size = self.splits[split], size

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = np.full((self.size, 6, 3), index, np.uint8)
        return {"image": image, "label": (image[..., 0] > 1).astype(np.uint8)}

class Broken(Cells):
    splits = {}

    def __getitem__(self, index):
        if index == 1:
            raise OSError("no such slide")
        return {"image": np.zeros((4, 6, 3), np.uint8), "label": np.zeros((4, 5), np.uint8)}

class Incomplete:
    classes = ("a",)
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "own_cells.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_cells"
    sys.modules.pop("own_cells", None)


def test_a_class_gives_records_facts_and_batches(module):
    source = Source(f"{module}:Cells", "val+train[1:]", (), (("size", 8),))
    data = Data(train=source, val=source)
    (batch,) = data.eval_batches(batch_size=4)
    assert batch["image"].shape == (4, 8, 6, 3)
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 1, 1, 2]
    assert batch["label"][:, 0, 0].tolist() == [0, 0, 0, 1]
    facts = data.facts()
    assert (facts.classes, facts.summary, facts.splits["val"]) == (("background", "cell"), "Cells of two sizes.", 2)
    assert sets.open_split(f"{module}:Cells", "val").sizes().tolist() == [[4, 6], [4, 6]]
    assert not sets.is_prepared(f"{module}:Cells")


@pytest.mark.parametrize(
    ("name", "split", "words"),
    [
        ("own_cells:Cels", "train", "there is no Cels in own_cells; did you mean 'Cells'"),
        ("own_cell:Cells", "train", "put its folder into PYTHONPATH"),
        ("own_cell:Cells", "train", "name the recipe that own_cell.py lies beside, --recipe FILE.py"),
        ("own_cells:Incomplete", "train", "it has no __len__"),
        ("own_cells:Cells", "test", "has no split 'test'; there are: train, val"),
        ("own_cells:Cells", "train[7:9]", "is not a split nor a slice"),
        ("os:path", "train", "os is no module of yours"),
    ],
)
def test_what_is_wrong_with_a_class_is_said(module, name, split, words):
    with pytest.raises(BadInput) as raised:
        sets.open_split(name, split)
    assert words in str(raised.value)


def test_what_is_wrong_with_an_example_is_said(module):
    with pytest.raises(BadInput, match=r"Broken\('train'\) failed: KeyError"):
        sets.open_split(f"{module}:Broken", "train")
    with pytest.raises(BadInput, match="there is nothing to prepare"):
        sets.prepare(f"{module}:Cells")
    sys.modules[module].Broken.splits = {"train": 3}
    found = sets.open_split(f"{module}:Broken", "train")
    with pytest.raises(BadInput, match=r"own_cells:Broken/train\[1\]: OSError: no such slide"):
        found[1]
    with pytest.raises(BadInput, match=r"train\[0\]: image is \[4, 6, 3\] and label \[4, 5\]"):
        found[0]


@pytest.mark.slow
def test_workers_import_the_class_beside_the_recipe(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "own_cells.py").write_text(MODULE)
    code = """
        import sys
        sys.path.insert(0, "recipes")  # as a recipe's file is loaded
        import numpy as np
        from jaxseg.data import Data, Source
        if __name__ == "__main__":
            source = Source("own_cells:Cells", "train")
            batches = [list(Data(train=source, val=source, workers=n).eval_batches(batch_size=3)) for n in (0, 1)]
            assert np.array_equal(batches[0][0]["image"], batches[1][0]["image"])
            print("equal")
    """
    (tmp_path / "run.py").write_text(textwrap.dedent(code))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "run.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout == "equal\n", done.stderr
