"""What a CRF makes of predictions: labels that follow the refined probabilities, void included."""

import jax.numpy as jnp
import numpy as np

from jaxseg.inference.crf import refined
from jaxseg.ops.crf import DenseCRF
from jaxseg.tasks.refined import Refined
from jaxseg.tasks.semantic import Semantic
from jaxseg.types import VOID

IMAGE = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
SURE = np.log(np.asarray([[0.01, 0.01, 0.98], [0.98, 0.01, 0.01]], np.float32))
LOGITS = np.broadcast_to(SURE[:, None, None], (2, 6, 8, 3))
"""Of the first image every pixel is void, the last output; of the second every pixel is class 0."""


def test_a_void_output_is_void_after_the_crf_too():
    task, crf = Semantic(2, void_is_class=True), DenseCRF(iterations=1)
    batch, outputs = {"image": jnp.asarray(IMAGE)}, {"logits": jnp.asarray(LOGITS)}
    assert set(np.asarray(task.predict(outputs, batch)["label"][0]).flat) == {VOID}
    found = Refined(task, crf).predict(outputs, batch)
    assert [set(np.asarray(one).flat) for one in found["label"]] == [{VOID}, {0}]
    np.testing.assert_allclose(found["probability"].sum(-1), 1, atol=1e-5)

    predicted = refined(lambda _: {"probability": np.exp(LOGITS)}, crf, num_classes=2)({"image": IMAGE})
    assert [set(one.flat) for one in predicted["label"]] == [{VOID}, {0}]
    np.testing.assert_allclose(predicted["probability"], found["probability"], atol=1e-5)


def test_without_such_an_output_every_output_is_a_class():
    found = refined(lambda _: {"probability": np.exp(LOGITS)}, DenseCRF(iterations=1))({"image": IMAGE})
    assert [set(one.flat) for one in found["label"]] == [{2}, {0}]
