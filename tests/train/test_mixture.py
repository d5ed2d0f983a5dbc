"""Training and evaluation over two data sets, each with the labels of a task of its own."""

import json

from jaxseg.data import Data, Mixture, Part, Source
from jaxseg.layers.dense_heads import DenseHeads, DepthHead, LabelHead
from jaxseg.models.semantic.unet import unet
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.depth import Depth
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.log import Console
from jaxseg.train.loop import fit
from jaxseg.train.optim import Adam

SMALL = (("size", 16), ("train", 3), ("val", 2))
OTHER = (("size", 16), ("train", 2), ("val", 1))


def mixture(split):
    parts = (
        Part(Source("scenes", split, (), SMALL), ("labels",)),
        Part(Source("scenes", split, (), OTHER), ("depth",)),
    )
    return Mixture(parts)


def recipe(steps):
    data = Data(train=mixture("train"), val=mixture("val"), keys=("image", "labels/label", "depth/depth"))
    classes = data.facts().tables["labels"]
    heads = (LabelHead(len(classes), task="labels"), DepthHead(task="depth"))
    stage = Stage(
        model=DenseHeads(unet(num_classes=sum(head.channels for head in heads), depth=2, width=4), heads),
        task=MultiTask({"labels": Semantic(len(classes), classes=classes), "depth": Depth()}),
        data=data,
        optimizer=Adam(1e-2),
        steps=steps,
        batch_size=4,
        eval_batch_size=2,
        log_every=1,
        eval_every=3,
        save_every=3,
        keep_best="depth/delta1",
    )
    return Recipe(stages=(stage,), name="both")


def test_a_run_over_two_data_sets_learns_both_tasks(tmp_path):
    figures = fit(recipe(3), tmp_path / "run", data_dir=tmp_path / "data", log=Console(quiet=True))
    assert 0 <= figures["labels/miou"] <= 1
    assert 0 <= figures["depth/delta1"] <= 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = {name for row in rows if row["kind"] == "train" for name in row if name.startswith("loss/")}
    assert losses == {"loss/labels/cross_entropy", "loss/depth/scale_invariant"}
