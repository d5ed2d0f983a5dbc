"""bfloat16 by one flag: the whole network computes in it, and a run ends where one in float32 does, within a bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import registry
from jaxseg.configure.adjust import adjust, with_precision
from jaxseg.errors import BadInput
from jaxseg.models.semantic.unet import unet
from jaxseg.train import checkpoint
from jaxseg.train.log import Console, read_rows
from jaxseg.train.loop import fit
from jaxseg.train.optim import Adam
from tests.train.toys import Net, recipe

BOUND = 0.02
"""Relative difference of the loss after 30 steps; bfloat16 has 8 bits, a rounding of 0.4 %."""


def test_every_part_gets_the_dtype_and_parameters_stay_float32():
    model = with_precision(registry.create_small("fpn_resnet50"), "bf16")
    assert model.dtype == model.backbone.dtype == model.decoder.dtype == jnp.bfloat16
    assert with_precision(model, "float32") == registry.create_small("fpn_resnet50")
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {np.dtype("float32")}


def test_a_run_in_bfloat16_ends_where_one_in_float32_does(tmp_path):
    ends = {}
    for precision in ("float32", "bf16"):
        model, optimizer = unet(num_classes=3, depth=1, width=4), Adam(1e-2)
        value = recipe(
            model=model, optimizer=optimizer, steps=30, eval_every=30, save_every=30, log_every=10, pictures=0
        )
        fit(adjust(value, precision=precision), tmp_path / precision, log=Console(quiet=True))
        rows = [row for row in read_rows(tmp_path / precision / "metrics.jsonl") if row["kind"] == "train"]
        ends[precision] = np.asarray([row["loss"] for row in rows])
        saved = checkpoint.read(tmp_path / precision / "stages" / "0-main" / "checkpoints")
        assert {leaf.dtype.name for leaf in jax.tree.leaves(saved.state["params"])} == {"float32"}
    assert ends["float32"][-1] < 0.95 * ends["float32"][0], "it learns, or the bound would say nothing"
    np.testing.assert_allclose(ends["bf16"], ends["float32"], rtol=BOUND)
    assert not np.array_equal(ends["bf16"], ends["float32"])


def test_what_has_no_dtype_is_refused():
    with pytest.raises(BadInput, match="Net has no dtype"):
        with_precision(Net(), "bf16")
    with pytest.raises(BadInput, match="must be float32 or bf16"):
        with_precision(Net(), "fp8")
