"""Every recipe in ``experiments/`` says what it reproduces, builds, dumps to JSON and loads back equal."""

import ast
import functools
import json
import re
import runpy
from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import pytest

from jaxseg.data import Facts, Mixture, records
from jaxseg.recipe import dump, load, load_file, shipped
from jaxseg.recipe_files import split
from jaxseg.tasks.protocol import check_facts
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import check_multipliers, path_of
from jaxseg.train.step import STREAMS
from jaxseg.types import closure
from jaxseg.weights.combine import Combined, Subset
from jaxseg.weights.inverse import source_name
from jaxseg.weights.names import rename
from jaxseg.weights.pretrained import Pretrained
from tests.contracts.zoo import shallow
from tests.laws.tree import ROOT

FILES = list(shipped().values())
"""Of a file with variants, ``FILE.py:VARIANT`` for each."""
catalogue = runpy.run_path(str(ROOT / "docs" / "catalogue.py"))


def test_there_are_recipes():
    assert "unet_scenes" in [path.stem for path in FILES]
    assert {split(path)[0] for path in FILES} == set((ROOT / "experiments").glob("[!_]*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.replace(".py", ""))
def test_the_docstring_says_what_it_reproduces(path):
    file, variant = split(path)
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    fields = catalogue["parse_fields"](text, variant or "")
    missing = [field for field in catalogue["FIELDS"] if not fields.get(field)]
    assert not missing, f"{path.name}: the docstring has no line beginning with {missing} and a colon"
    assert f"jaxseg train experiments/{path.name}" in fields["Command"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.replace(".py", ""))
def test_it_loads_back_equal(path):
    recipe = load_file(path)
    again = load(json.loads(json.dumps(dump(recipe))))
    assert again == recipe
    assert dump(again) == dump(recipe)


SIZES = {"camvid": (360, 480), "isbi_em": (512, 512), "scenes": (96, 128)}
"""Of the images, where recipes count on one; the others take any."""


def facts_of(data):
    """Of the validation's data set; a folder, which is not here, has images alone."""
    return Facts(data.val.dataset, "", (), (), {}) if data.val.dataset.startswith("folder:") else data.facts()


def batch_of(stage, source, rows):
    """Shapes of a batch of that data set, which need not be there: a made-up record goes through the transforms."""
    data = stage.data
    if isinstance(source, Mixture):
        found = {f"{task}/present": jax.ShapeDtypeStruct((rows,), bool) for task in source.tasks}
        for part in source.parts:
            keys = tuple(name for name in data.keys if name.rpartition("/")[0] in ("", *part.tasks))
            own = batch_of(replace(stage, data=replace(data, keys=keys)), part.source, rows)
            assert all(found.get(key, leaf) == leaf for key, leaf in own.items())
            found |= own
        return found
    facts = facts_of(replace(data, val=source))
    size = SIZES.get(source.dataset, (375, 500))
    label = np.zeros(size, np.uint8)
    label[20:80, 30:90] = max(facts.num_classes - 1, 0)
    ids = (label > 0).astype(np.uint16)
    record = {
        "image": np.full((*size, 3), (200, 90, 30), np.uint8),
        "label": label,
        "instance_ids": ids,
        "hidden_ids": np.zeros(size, np.uint16),
        "panoptic": np.stack([label, ids], -1, dtype=np.int32),
        "boxes": np.asarray([[30, 20, 90, 80]], np.float32),
        "classes": np.zeros(1, np.int32),
        "area": np.asarray([3600], np.float32),
        "crowd": np.zeros(1, bool),
        "difficult": np.zeros(1, bool),
        "keypoints": np.full((1, len(facts.joints), 3), 2, np.float32),
        "rle": np.zeros(data.rle_bytes, np.uint8),
        "depth": np.ones(size, np.float32),
        "depth_valid": np.ones(size, bool),
        "normal": np.broadcast_to(np.asarray([0, 0, -1], np.float32), (*size, 3)),
        "normal_valid": np.ones(size, bool),
        "index": np.asarray(0, np.int64),
        "original_size": np.asarray(size, np.int32),
        "boundary": label > 0,
        "saliency": label > 0,
        "boundary_marks": ids,
    }
    wanted = {"image", *closure(data.keys)} | {"instance_ids"}
    record = {key: value for key, value in record.items() if key in wanted}
    for transform in source.transforms:
        record = transform(record, np.random.default_rng(0))
    done = records.to_batch_row(record, keys=data.keys, slots=data.slots)
    records.validate(done, where=source.dataset, limits=facts.limits)
    done["real"] = np.ones((), bool)
    return {key: jax.ShapeDtypeStruct((rows, *array.shape), array.dtype) for key, array in done.items()}


@functools.cache
def terms_of(model, task, shapes):
    """(variables, terms of the loss, outputs) of a training pass, in shapes alone; equal stages are traced once."""
    batch = {key: jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype)) for key, shape, dtype in shapes}

    def forward(batch):
        keys = {name: jax.random.key(i) for i, name in enumerate(("params", *STREAMS))}
        outputs, variables = model.init_with_output(keys, **task.inputs(batch, train=True), train=True)
        return variables, task.loss(outputs, batch), outputs

    return jax.eval_shape(forward, batch)


FIRST = {split(path)[0]: path for path in reversed(FILES)}
"""One variant of every file; its siblings share most of it."""


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[] if path in FIRST.values() else pytest.mark.slow) for path in FILES],
    ids=[path.name.replace(".py", "") for path in FILES],
)
def test_its_parts_fit_together(path):
    """Transforms, network, task and optimizer, on batches such as the data set would give."""
    for stage in load_file(path).stages:
        check_facts(stage.task, facts_of(stage.data))
        batch_of(stage, stage.data.val, stage.eval_batch_size or stage.batch_size)
        batch = batch_of(stage, stage.data.train, stage.batch_size)
        shapes = tuple((key, leaf.shape, leaf.dtype) for key, leaf in batch.items())
        variables, terms, outputs = terms_of(shallow(stage.model), stage.task, shapes)
        if isinstance(stage.task, Semantic):
            assert stage.task.num_outputs == stage.model.num_classes == outputs["logits"].shape[-1]
            assert {loss.name for loss in stage.task.losses} <= set(terms)
        else:
            assert terms
        assert all(term.sum.shape == term.count.shape == () for term in terms.values())
        check_multipliers(stage.optimizer, variables["params"])
        stage.optimizer.build(stage.steps).init


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.replace(".py", ""))
def test_what_one_stage_leaves_fits_the_next(path):
    """A stage that begins with the weights of the one before finds most of its own arrays among them."""
    stages = load_file(path).stages
    for before, after in pairwise(stages):
        if after.init == "previous":
            mine, theirs = (shapes_of(stage) for stage in (after, before))
            shared = sum(theirs.get(path) == shape for path, shape in mine.items())
            assert shared >= len(mine) / 2, f"{after.name}: {shared} of {len(mine)} arrays"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.replace(".py", ""))
def test_imported_weights_have_a_place(path):
    """Every variable of the part that a stage's first weights are for has a name in their source."""
    for stage in load_file(path).stages:
        for pattern, start in starts_of(stage.init):
            inside = [p.removeprefix(f"{start.part}/") for p in shapes_of(stage) if p.startswith(start.part)]
            chosen = [p for p in inside if re.fullmatch(pattern, p)]
            assert chosen, f"the model has no part {start.part!r}"
            unnamed = [
                p for p in chosen if source_name(p, start.rules, lambda name, s=start: rename(name, s.rules)) is None
            ]
            assert not unnamed, f"{start}: nothing fills {unnamed[:3]}"


def starts_of(init):
    """(which paths, the file they come from), for each file."""
    if isinstance(init, Combined):
        return [found for start in init.starts for found in starts_of(start)]
    if isinstance(init, Subset):
        return [(init.paths, start) for _, start in starts_of(init.start)]
    return [(".*", init)] if isinstance(init, Pretrained) else []


def shapes_of(stage):
    """Path without its collection -> shape."""
    batch = batch_of(stage, stage.data.train, stage.batch_size)
    shapes = tuple((key, leaf.shape, leaf.dtype) for key, leaf in batch.items())
    variables = terms_of(shallow(stage.model), stage.task, shapes)[0]
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {path_of(path).partition("/")[2]: leaf.shape for path, leaf in leaves}
