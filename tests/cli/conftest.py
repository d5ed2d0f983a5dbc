"""One tiny training through the command line, which the tests of the other verbs share."""

import shutil
from pathlib import Path

import pytest

from jaxseg.cli.main import main

RECIPE = '''
"""A tiny training."""

from jaxseg.data import Data, Source
from jaxseg.models.semantic.unet import unet
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD


def recipe():
    options = (("size", 32), ("train", 6), ("val", 3))
    data = Data(train=Source("scenes", "train", options=options), val=Source("scenes", "val", options=options))
    stage = Stage(
        model=unet(num_classes=7, depth=1, width=2),
        task=Semantic(7, classes=data.facts().classes),
        data=data,
        optimizer=SGD(0.01),
        steps=2,
        batch_size=3,
        ema=0.5,
        log_every=1,
        eval_every=2,
        save_every=1,
        pictures=1,
    )
    return Recipe(stages=(stage,), name="tiny")
'''


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with tiny.py, its work directory ``run`` and prepared data in ``data``."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.py").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSEG_CACHE", "off")
        words = ["train", folder / "tiny.py", "--workdir", folder / "run", "--data-dir", folder / "data"]
        assert main([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    """A copy of ``trained`` that a test may spoil."""
    return Path(shutil.copytree(trained, tmp_path / "copied"))
