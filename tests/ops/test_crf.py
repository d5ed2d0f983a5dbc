"""Mean field of the fully connected CRF: brute force in float64, pydensecrf's conventions, the fast form's error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.ops import crf

H, W, K = 6, 7, 3
rng = np.random.default_rng(0)
IMAGE = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
ENERGY = rng.normal(size=(H * W, K)) * 2
MATRIX = rng.normal(size=(K, K))
COMPATIBILITIES = {"number": 4.0, "vector": np.array([-1.0, -3.0, 0.5]), "matrix": MATRIX}


def kernel(features):
    """exp(-|f_i - f_j|^2 / 2), the diagonal included."""
    difference = features[:, None] - features[None]
    return np.exp(-(difference**2).sum(-1) / 2)


def features(sxy, srgb=None):
    y, x = np.mgrid[:H, :W].reshape(2, -1).astype(float)
    place = np.stack([x / sxy, y / sxy], 1)
    return place if srgb is None else np.concatenate([place, IMAGE.reshape(-1, 3) / srgb], 1)


def divided(k, mode):
    n = k.sum(1)
    r = 1 / np.sqrt(n)
    modes = {"symmetric": r[:, None] * k * r, "before": k / n, "after": k / n[:, None], "none": k / n.mean()}
    return modes[mode]


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def brute(energy, kernels, iterations):
    """One update after the other in float64, kernels as matrices."""
    q = softmax(-energy)
    for _ in range(iterations):
        total = energy.copy()
        for k, compatibility in kernels:
            if np.ndim(compatibility) == 0:
                total -= compatibility * (k @ q)
            elif np.ndim(compatibility) == 1:
                total += (k @ q) * compatibility
            else:
                total += (k @ q) @ (compatibility + compatibility.T) / 2
        q = softmax(-total)
    return q


def ours(energy, compatibility, mode, iterations=4):
    wide = crf.exact_filter(crf.bilateral_features(jnp.asarray(IMAGE), 4.0, 60.0), block=10)
    near = crf.grid_filter(H, W, 1.5)
    messages = [(crf.normalized(wide, H * W, mode), compatibility), (crf.normalized(near, H * W, mode), 2.0)]
    return crf.mean_field(energy, messages, iterations=iterations)


def theirs(energy, compatibility, mode, iterations=4):
    kernels = [(divided(kernel(features(4, 60)), mode), compatibility), (divided(kernel(features(1.5)), mode), 2.0)]
    return brute(energy, kernels, iterations)


@pytest.mark.parametrize("mode", crf.MODES)
@pytest.mark.parametrize("kind", COMPATIBILITIES)
def test_exact_inference_is_brute_force(mode, kind):
    compatibility = COMPATIBILITIES[kind]
    value = compatibility if kind == "number" else jnp.asarray(compatibility, jnp.float32)
    found = jax.jit(lambda e: ours(e, value, mode))(jnp.asarray(ENERGY, jnp.float32))
    np.testing.assert_allclose(found, theirs(ENERGY, compatibility, mode), atol=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    """To the energies and to the compatibilities, through four iterations."""
    pattern = np.cos(np.arange(H * W * K)).reshape(H * W, K)
    goal = lambda e, c: jnp.sum(ours(e, c, "symmetric") * jnp.asarray(pattern, jnp.float32))  # noqa: E731
    energy, matrix = jnp.asarray(ENERGY, jnp.float32), jnp.asarray(MATRIX, jnp.float32)
    of_energy, of_matrix = jax.jit(jax.grad(goal, argnums=(0, 1)))(energy, matrix)

    def slope(direction, which):
        values = []
        for step in (1e-5, -1e-5):
            moved = [ENERGY, MATRIX]
            moved[which] = moved[which] + step * direction
            values.append((theirs(*moved, "symmetric") * pattern).sum())
        return (values[0] - values[1]) / 2e-5

    for seed in range(3):
        draw = np.random.default_rng(seed).normal
        for which, gradient in enumerate((of_energy, of_matrix)):
            direction = draw(size=gradient.shape)
            assert (gradient * direction).sum() == pytest.approx(slope(direction, which), rel=1e-3, abs=1e-4)


def test_grid_is_exact():
    values = jnp.asarray(rng.normal(size=(H * W, 2)).astype(np.float32))
    exact = crf.exact_filter(crf.spatial_features(H, W, 2.5), block=16)
    np.testing.assert_allclose(crf.grid_filter(H, W, 2.5)(values), exact(values), atol=1e-5)


@pytest.mark.parametrize("build", [crf.exact_filter, crf.lattice_filter])
def test_what_holds_exactly(build):
    @jax.jit
    def both(image, energy):
        smooth = build(crf.bilateral_features(image, 3.0, 50.0))
        ones = crf.normalized(smooth, H * W, "after")(jnp.ones((H * W, 1)))
        return ones, crf.mean_field(energy, [(smooth, 0.0)], iterations=3)

    ones, still = both(jnp.asarray(IMAGE), jnp.asarray(ENERGY, jnp.float32))
    np.testing.assert_allclose(ones, 1, rtol=1e-5)
    np.testing.assert_allclose(still, softmax(-ENERGY), atol=1e-6)


def test_symmetric_normalisation_is_symmetric():
    smooth = crf.exact_filter(crf.bilateral_features(jnp.asarray(IMAGE), 3.0, 50.0))
    matrix = crf.normalized(smooth, H * W)(jnp.eye(H * W))
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)


def test_energies_are_clipped_probabilities():
    np.testing.assert_allclose(crf.energy_of(jnp.asarray([1.0, 0.5, 0.0])), -np.log([1, 0.5, 1e-5]), rtol=1e-6)


def picture(name):
    data, transform = (pytest.importorskip(f"skimage.{part}", reason="a picture") for part in ("data", "transform"))
    small = transform.resize(getattr(data, name)(), (64, 64), anti_aliasing=True, preserve_range=True)
    return small.astype(np.uint8)


def noisy(image, classes=3):
    """Probabilities that follow the colours, with much noise on top."""
    draw = np.random.default_rng(1).normal
    scores = (image / 255 - 0.5) @ draw(size=(3, classes)) * 4 + draw(size=(*image.shape[:2], classes))
    return jax.nn.softmax(jnp.asarray(scores, jnp.float32), axis=-1)


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_the_fast_form_is_within_two_percent(name):
    """Of natural pictures, with pydensecrf's README settings: within one, of the marginals and of the labels."""
    image = picture(name)
    probability, call = noisy(image), crf.DenseCRF()
    fast = np.asarray(jax.jit(call)(probability, image)).reshape(-1, 3)

    @jax.jit
    def exact(probability, image):
        near = crf.grid_filter(64, 64, 3.0)
        wide = crf.exact_filter(crf.bilateral_features(image, 80.0, 13.0))
        messages = [(crf.normalized(near, 4096), 3.0), (crf.normalized(wide, 4096), 10.0)]
        return crf.mean_field(crf.energy_of(probability).reshape(4096, 3), messages, iterations=5)

    reference = np.asarray(exact(probability, jnp.asarray(image)))
    changed = (reference.argmax(1) != np.asarray(probability).reshape(-1, 3).argmax(1)).mean()
    assert changed > 0.1, "the CRF has nothing to do"
    assert np.abs(fast - reference).mean() < 0.01
    assert (fast.argmax(1) == reference.argmax(1)).mean() > 0.99


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: crf.normalized(lambda v: v, 4, "sym"), "did you mean 'symmetric'"),
        (lambda: crf.pairwise(jnp.ones((2, 2)), jnp.ones((1, 2, 2))), "a compatibility of 3 axes"),
    ],
)
def test_mistakes_are_named(fault, message):
    with pytest.raises(BadInput, match=message):
        fault()
