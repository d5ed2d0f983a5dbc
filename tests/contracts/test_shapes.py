"""What holds for every registered model without running any: shapes, counts, paths, identity.

``make catalogue`` writes the list of paths of a new network. ``JAXSEG_WRITE_SNAPSHOTS=1 pytest
tests/contracts/test_shapes.py`` rewrites them all; read the difference before you commit it, because published
checkpoints use these names.
"""

import functools
import os
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import traverse_util

from jaxseg import registry, types
from tests.contracts.zoo import (
    DETECTORS,
    LABELLERS,
    MAPPERS,
    image_of,
    main_output,
    objects_of,
    one_of_each_file,
    output_size,
    shallow,
    sizes,
)

SNAPSHOTS = Path(__file__).parent / "snapshots"
NAMES = list(registry.entries())
catalogue = runpy.run_path(str(Path(__file__).resolve().parents[2] / "docs" / "catalogue.py"))


@functools.cache
def of_model(model):
    """Shapes of its outputs and of its variables, for floats of the first size."""
    image = image_of(sizes(model)[0]).astype(jnp.float32)
    return jax.eval_shape(functools.partial(model.init_with_output, jax.random.key(0)), image)


@functools.cache
def traced(name):
    """(model, shapes of its outputs, shapes of its variables) at the builder's defaults."""
    model = registry.create_model(name)
    return model, *of_model(model)


@functools.cache
def trained(name):
    """As ``of_model``, but in training, of the network of one block a stage, for bytes of the last size."""
    model = shallow(traced(name)[0])
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1), "sample": jax.random.key(2)}
    size = sizes(model)[-1]
    given = {"targets": objects_of(size, batch=1)} if name in DETECTORS else {}
    return jax.eval_shape(functools.partial(model.init_with_output, keys, train=True, **given), image_of(size, batch=1))


@pytest.mark.parametrize("name", one_of_each_file(LABELLERS))
def test_outputs(name):
    """Of images of two sizes, as floats and as bytes; the second by the network of one block a stage."""
    model, first, _ = traced(name)
    brief = shallow(model)
    last = jax.eval_shape(brief.apply, of_model(brief)[1], image_of(sizes(model)[-1]).astype(jnp.uint8))
    assert set(last) == {"logits"}
    for size, outputs in zip(sizes(model), (first, last), strict=True):
        assert outputs["logits"].shape == (2, *output_size(model, size), model.num_classes)
        assert outputs["logits"].dtype == jnp.float32


@pytest.mark.parametrize("name", one_of_each_file(LABELLERS))
def test_training_outputs(name):
    """Training may add auxiliary logits of the same shape."""
    model = traced(name)[0]
    outputs = trained(name)[0]
    assert "logits" in outputs
    assert all(name == "logits" or name.startswith("aux_logits") for name in outputs)
    assert {leaf.shape for leaf in outputs.values()} == {(1, *output_size(model, sizes(model)[-1]), model.num_classes)}


@pytest.mark.parametrize("name", one_of_each_file(MAPPERS))
def test_numbers_of_every_pixel(name):
    """Their keys, dtypes and axes are the vocabulary's, whatever the size of the images, in training as well."""
    model, first, _ = traced(name)
    brief = shallow(model)
    last = jax.eval_shape(brief.apply, of_model(brief)[1], image_of(sizes(model)[-1]).astype(jnp.uint8))
    one = trained(name)[0]
    for outputs, size, batch in ((first, sizes(model)[0], 2), (last, sizes(model)[-1], 2), (one, sizes(model)[-1], 1)):
        assert main_output(name) in outputs
        axes = lengths(outputs)
        height, width = output_size(model, size)
        assert axes["b"] == {batch}
        assert (axes["h"], axes["w"]) == ({height}, {width})


ROWS = {
    "detection": set(),
    "instance": {"masks"},
    "keypoints": {"keypoints"},
    "panoptic": {"masks", "logits"},
}
"""What a network of a task returns beside boxes, scores, classes and validity."""


def lengths(outputs):
    """Letter of an axis -> the lengths that it has in the outputs, by the table of keys; a key has its dtype."""
    found = {}
    for key, leaf in outputs.items():
        row = types.OUTPUTS[key]
        assert leaf.dtype == jnp.dtype(row.dtype), key
        assert len(leaf.shape) == len(row.letters), key
        for letter, length in zip(row.letters, leaf.shape, strict=True):
            found.setdefault(letter, set()).add(length)
    return found


@pytest.mark.parametrize("name", one_of_each_file(DETECTORS))
def test_detections(name):
    """Their keys, dtypes and axes are the vocabulary's, whatever the size of the images."""
    model, first, _ = traced(name)
    brief = shallow(model)
    last = jax.eval_shape(brief.apply, of_model(brief)[1], image_of(sizes(model)[-1]).astype(jnp.uint8))
    for outputs in (first, last):
        assert set(outputs) - {"exact"} == {"boxes", "scores", "classes", "valid", *ROWS[registry.find(name).task]}
        axes = lengths(outputs)
        assert axes["b"] == {2}
        assert axes["d"] == {model.detections}


SAMPLED = {"rois", "roi_valid", "roi_positive", "roi_logits"}
GRID = {"anchor_deltas", "objectness", "image_size"}
OWN_LOSSES = {
    "fast_rcnn_vgg16": {*SAMPLED, "roi_deltas"},
    "rcnn_alexnet": SAMPLED,
    **dict.fromkeys(("yolo_v1", "yolo_v1_tiny"), GRID | {"cell_logits"}),
    **dict.fromkeys(("yolo_v3_tiny", "yolo_fastest", "yolo_fastest_xl"), GRID | {"anchors", "class_logits", "cells"}),
}
"""What networks return whose proposals come from elsewhere, and those whose losses ask for the cells of a grid."""


@pytest.mark.parametrize("name", one_of_each_file(DETECTORS))
def test_what_losses_of_detectors_are_made_of(name):
    """One stage or two; the heads look at the first regions."""
    outputs = trained(name)[0]
    task = registry.find(name).task
    one_stage, two_stages = (
        {"class_logits"},
        {"objectness", "anchor_luck", "rois", "roi_valid", "roi_positive", "roi_logits", "roi_deltas"},
    )
    heads = {{"masks": "mask_logits", "keypoints": "keypoint_logits"}.get(key, key) for key in ROWS[task]}
    kind = one_stage if "class_logits" in outputs else two_stages
    if name in OWN_LOSSES:
        assert set(outputs) == OWN_LOSSES[name] | heads
        return
    own = {"mask_class_logits", "roi_repeated"} if name.startswith("mnc_") else set()
    assert set(outputs) == {"anchors", "anchor_deltas", *kind, *heads, *own}
    axes = lengths(outputs)
    assert len(axes["a"]) == 1
    assert len(axes.get("s", {0})) == 1


@pytest.mark.parametrize("name", one_of_each_file(NAMES))
def test_variables_do_not_depend_on_the_call(name):
    """Neither on ``train`` nor on the image's size: heads own their parameters either way."""
    model = shallow(traced(name)[0])
    variables = of_model(model)[1]
    assert trained(name)[1] == variables
    assert set(variables) <= {"params", "batch_stats"}


@pytest.mark.parametrize("name", NAMES)
def test_parameter_count(name):
    _, _, variables = traced(name)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    published = registry.find(name).published
    assert not published or catalogue["agrees"](count, published), f"{count:,}, published: {published}"
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("name", NAMES)
def test_paths(name):
    """Parameter paths are public: checkpoints of others depend on them."""
    _, _, variables = traced(name)
    flat = traverse_util.flatten_dict(variables, sep="/")
    lines = [f"{path} {'x'.join(str(n) for n in leaf.shape)}\n" for path, leaf in sorted(flat.items())]
    snapshot = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("JAXSEG_WRITE_SNAPSHOTS"):
        snapshot.write_text("".join(lines))
    assert snapshot.exists(), f"no snapshot of {name}: say make catalogue"
    assert lines == snapshot.read_text().splitlines(keepends=True)
    automatic = [path for path in flat if any(part.rsplit("_", 1)[0] in AUTOMATIC for part in path.split("/"))]
    assert not automatic, "children with parameters need explicit names"


AUTOMATIC = {"Conv", "ConvTranspose", "BatchNorm", "GroupNorm", "PReLU", "Dense", "Bottleneck", "Embed"}


def test_no_snapshot_is_orphaned():
    assert {path.stem for path in SNAPSHOTS.glob("*.txt")} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_object_is_the_configuration(name):
    """Two builds are equal, hash alike and print; another number of classes, or another dtype, makes another model."""
    model = registry.create_model(name)
    again = registry.create_model(name)
    assert model == again
    assert hash(model) == hash(again)
    other = {"dtype": jnp.bfloat16} if name in MAPPERS else {"num_classes": model.num_classes + 1}
    assert next(iter(other)) in repr(model)
    assert registry.create_model(name, **other) != model
