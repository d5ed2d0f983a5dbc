"""CRF as RNN: conditional random fields as recurrent neural networks (Zheng et al. 2015, arXiv:1502.03240).

FCN-8s gives scores; mean-field inference of a fully connected CRF refines them, unrolled so that its weights are
learned with the network's. Filters, their normalisation and the order of the steps follow the authors' Caffe layer
(torrvision/caffe): softmax, two Gaussian filters divided by their answer to ones, weights per class, compatibility,
and the scores again.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

from jaxseg.layers.standardize import IMAGENET, Standardize
from jaxseg.models.semantic.fcn import FCN, fcn8s_vgg16
from jaxseg.ops.crf import bilateral_features, grid_filter, lattice_filter, normalized
from jaxseg.registry import Overfit, register

Matrix = Float[Array, "k k"]


class CRFRNN(nn.Module):
    """A network of scores with the CRF behind it.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("crfrnn_vgg16"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      network: gives the scores.
      num_classes: their channels.
      iterations: of mean-field inference, in training and at test.
      spatial_deviation: of the spatial kernel, pixels.
      bilateral_deviation: of the bilateral kernel in space, pixels.
      color_deviation: and in each colour, of 256 levels.
    """

    network: FCN
    num_classes: int = 21
    iterations: tuple[int, int] = (5, 10)
    spatial_deviation: float = 3.0
    bilateral_deviation: float = 160.0
    color_deviation: float = 3.0

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.network.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size; the CRF itself always computes in float32."""
        scores = self.network(image, train=train)["logits"]
        k = self.num_classes
        weights = (
            Mixing(k, 3.0, name="spatial")(),
            Mixing(k, 5.0, name="bilateral")(),
            Mixing(k, -1.0, name="compatibility")(),
        )
        refine = partial(
            mean_field_rnn,
            weights=weights,
            iterations=self.iterations[0 if train else 1],
            deviations=(self.spatial_deviation, self.bilateral_deviation, self.color_deviation),
        )
        return {"logits": jax.vmap(refine)(scores, self.network.backbone.standardize.to_levels(image))}


class Mixing(nn.Module):
    """A matrix over classes that starts as a multiple of the identity.

    >>> Mixing(2, 3.0).init_with_output(jax.random.key(0))[0].tolist()
    [[3.0, 0.0], [0.0, 3.0]]
    """

    classes: int
    start: float

    @nn.compact
    def __call__(self) -> Matrix:
        """Return the matrix, from input to output class."""

        def scaled(_key: Array, shape: tuple[int, ...], dtype: jnp.dtype | type) -> Array:
            return self.start * jnp.eye(shape[0], dtype=dtype)

        return self.param("kernel", scaled, (self.classes, self.classes), jnp.float32)


def mean_field_rnn(
    scores: Float[Array, "h w k"],
    image: Shaped[Array, "h w c"],
    *,
    weights: tuple[Matrix, Matrix, Matrix],
    iterations: int,
    deviations: tuple[float, float, float],
) -> Float[Array, "h w k"]:
    """Scores after the recurrence (Algorithm 1): ``q = u - compatibility(spatial(S) + bilateral(B))``, S and B being
    the filtered softmax of q, and u the first q. No gradient goes to the image.

    >>> weights = (3.0 * jnp.eye(2), 5.0 * jnp.eye(2), -jnp.eye(2))
    >>> scores, image = jnp.zeros((8, 8, 2)), jnp.zeros((8, 8, 3), jnp.uint8)
    >>> refine = lambda s: mean_field_rnn(s, image, weights=weights, iterations=5, deviations=(3.0, 160.0, 3.0))
    >>> jax.eval_shape(refine, scores).shape
    (8, 8, 2)
    """
    h, w, k = scores.shape
    features = bilateral_features(image, deviations[1], deviations[2])
    spatial = normalized(grid_filter(h, w, deviations[0]), h * w, "after")
    bilateral = normalized(lattice_filter(features), h * w, "after")
    unary = scores.reshape(h * w, k)
    of_space, of_color, compatibility = weights

    def step(q: Array, _: None) -> tuple[Array, None]:
        marginals = jax.nn.softmax(q, axis=-1)
        message = spatial(marginals) @ of_space + bilateral(marginals) @ of_color
        return unary - message @ compatibility, None

    return lax.scan(step, unary, None, length=iterations)[0].reshape(h, w, k)


@register(
    task="semantic",
    paper="arXiv:1502.03240",
    params=134_364_074,
    small={"width": 4, "fc_features": 8},
    overfit=Overfit(
        learning_rate=3e-3,
        size=(32, 48),
        fields={"width": 8, "fc_features": 32, "standardize": IMAGENET, "iterations": (3, 3)},
    ),
)
def crfrnn_vgg16(
    num_classes: int = 21,
    width: int = 64,
    fc_features: int = 4096,
    iterations: tuple[int, int] = (5, 10),
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> CRFRNN:
    """CRF as RNN behind FCN-8s: five mean-field iterations in training, ten at test, three learned matrices."""
    network = fcn8s_vgg16(
        num_classes,
        width=width,
        fc_features=fc_features,
        in_channels=in_channels,
        standardize=standardize,
        dtype=dtype,
    )
    return CRFRNN(network=network, num_classes=num_classes, iterations=iterations)
