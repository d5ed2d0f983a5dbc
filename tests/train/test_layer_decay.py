"""Layer-wise decay: the layers in the order of the forward pass, each once, slower towards the image."""

import jax
import numpy as np
import pytest

from jaxseg import registry
from jaxseg.errors import BadInput
from jaxseg.train.layer_decay import layer_decay
from jaxseg.train.optim import SGD, check_multipliers, path_of


def test_every_parameter_of_the_backbone_has_the_rate_of_its_layer_and_the_rest_the_whole():
    model = registry.create_small("fpn_resnet50")
    found = layer_decay(model, 0.5)
    assert [p for p, _ in found if "norm" not in p] == [
        f"^backbone/{name}/" for name in ("conv1", "layer1_0", "layer2_0", "layer3_0", "layer4_0")
    ]
    params = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8))["params"]
    optimizer = SGD(1.0, momentum=0.0, lr_multipliers=found)
    check_multipliers(optimizer, params)
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), params)
    tx = optimizer.build(1)
    updates, _ = tx.update(ones, tx.init(ones), ones)
    rates = {path_of(p): -float(u.ravel()[0]) for p, u in jax.tree_util.tree_leaves_with_path(updates)}
    expected = {"conv1": 1 / 32, "norm1": 1 / 32, "layer1_0": 1 / 16, "layer4_0": 1 / 2}
    for path, rate in rates.items():
        layer = path.split("/")[1]
        assert rate == (1.0 if not path.startswith("backbone/") else expected.get(layer, rate)), path


def test_a_part_that_is_not_there_and_a_factor_that_is_none_are_refused():
    model = registry.create_small("fpn_resnet50")
    with pytest.raises(BadInput, match="no layers in 'encoder'; it has"):
        layer_decay(model, 0.5, part="encoder")
    with pytest.raises(BadInput, match="must be above 0"):
        layer_decay(model, 0.0)
