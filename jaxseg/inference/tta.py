"""Test-time augmentation: the mean of what a network says of an image in all its eight positions.

U-Net's published figures are means over seven rotated versions of the input (Ronneberger et al. 2015, section 4). Which
angles is not said; the turns by right angles and their mirror images need no resampling.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

MIRRORED = ((), (1,), (2,), (1, 2))
"""The axes along which an image is mirrored; with rows and columns exchanged or not, these are all eight positions."""


@dataclass(frozen=True)
class TestTimeAugmented:
    """A semantic network that takes the mean of its probabilities over the eight positions of each image.

    It stands wherever a trained network is applied: ``evaluate(TestTimeAugmented(model), variables, task, batches)``,
    and in ``predict`` with ``dataclasses.replace(run, model=TestTimeAugmented(run.model))``.

    Attributes:
      model: a linen module that returns ``logits``; it is never asked to train.
    """

    model: Any

    __test__: ClassVar[bool] = False
    """Not a test, whatever its name begins with: pytest collects classes called Test*."""

    def apply(self, variables: Mapping[str, Any], image: Shaped[Array, "b h w 3"], *, train: bool = False) -> Any:
        """``{"logits": f32[b h w k]}``, logarithms of the mean probabilities, whatever else the network returns."""
        assert not train

        def probability(x: Array) -> Array:
            return jax.nn.softmax(self.model.apply(variables, x, train=False)["logits"].astype(jnp.float32), axis=-1)

        upright = _mean_of_mirrored(probability, image)
        turned = _mean_of_mirrored(probability, jnp.swapaxes(image, 1, 2))
        mean = (upright + jnp.swapaxes(turned, 1, 2)) / 2
        return {"logits": jnp.log(jnp.maximum(mean, jnp.finfo(jnp.float32).tiny))}

    @property
    def input_size(self) -> Callable[[int, int], tuple[int, int]]:
        """The network's own, if it has valid convolutions."""
        return self.model.input_size

    @property
    def valid_size(self) -> Callable[[int, int], tuple[int, int]]:
        """The network's own, if it has valid convolutions."""
        return self.model.valid_size


def _mean_of_mirrored(function: Callable[[Array], Array], image: Shaped[Array, "b h w 3"]) -> Array:
    """The mean of ``function`` over the image and its mirror images, each mirrored back; compiled once."""
    found = jax.lax.map(function, jnp.stack([jnp.flip(image, axes) for axes in MIRRORED]))
    back = [jnp.flip(one, axes) for one, axes in zip(found, MIRRORED, strict=True)]
    return jnp.mean(jnp.stack(back), axis=0)
