"""The form of an operation is chosen by an argument: what is traced holds the forms that were asked for, no others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.losses import lovasz_softmax
from jaxseg.ops.backend import choose, current, map_images, using
from jaxseg.ops.conv import conv, conv_transpose
from tests.laws.tree import modules

LABEL = jnp.zeros((1, 16, 16), jnp.int32)


def loss(kernel, x):
    """Every operation that has two forms, in the forms' own cases: depthwise, grouped, 1x1, transposed, Lovász."""
    depthwise, grouped, pointwise, transposed = kernel
    y = conv(x, depthwise, padding=1, stride=2, groups=8)
    y = conv(y, grouped, padding=1, groups=2)
    y = conv_transpose(conv(y, pointwise), transposed, stride=2)
    return jnp.sum(lovasz_softmax(y, LABEL))


def arguments():
    rng = np.random.default_rng(0)
    shapes = (3, 3, 1, 8), (3, 3, 4, 8), (1, 1, 8, 8), (2, 2, 8, 8)
    kernels = tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
    return kernels, jnp.asarray(rng.normal(size=(1, 16, 16, 8)), jnp.float32)


def branches(function):
    """How many choices are left to the compiler in a function, those in inner functions included."""
    return str(jax.make_jaxpr(function)(*arguments())).count("platform_index")


@pytest.mark.parametrize("backend", ["xla", "cpu"])
def test_a_backend_leaves_no_choice_even_where_the_other_was_traced_before(backend):
    gradient = jax.value_and_grad(loss)
    assert branches(gradient) > 4
    assert branches(using(backend)(gradient)) == 0
    assert branches(jax.jit(using(backend)(gradient))) == 0
    assert branches(gradient) > 4


def test_the_forms_agree():
    plain, auto = (jax.jit(using(b)(jax.value_and_grad(loss)))(*arguments()) for b in ("xla", "auto"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), plain, auto)


def test_the_form_is_the_one_that_was_asked_for():
    def form(**backend):
        return choose(jnp.zeros(()), cpu=lambda x: x + 1, default=lambda x: x + 2, **backend)

    assert form() == (1 if jax.default_backend() == "cpu" else 2)
    assert (form(backend="cpu"), form(backend="xla")) == (1, 2)
    with using("xla"):
        assert (form(), form(backend="cpu"), current()) == (2, 1, "xla")
        with using("cpu"):
            assert (form(), current()) == (1, "cpu")
        assert current() == "xla"
    assert current() == "auto"


def test_a_gradient_taken_outside_keeps_the_form():
    kernels, x = arguments()

    def two(kernels):
        with using("xla"):
            y, back = jax.vjp(loss, kernels, x)
        return back(jnp.ones_like(y))

    assert "platform_index" not in str(jax.make_jaxpr(two)(kernels))


def test_the_choice_is_made_in_one_place():
    users = [path.name for path in modules("jaxseg") if "platform_dependent(" in path.read_text(encoding="utf-8")]
    assert users == ["backend.py"]


def test_an_unknown_backend_is_refused():
    with pytest.raises(BadInput, match="no backend is called 'gpu'; did you mean 'cpu'"), using("gpu"):
        pass


def test_images_are_mapped_at_once_or_one_after_the_other_with_the_same_result():
    def take(x, index):
        return {"taken": x[index], "sum": x.sum()}

    x, index = jnp.arange(12.0).reshape(3, 4), jnp.asarray([[0, 3], [1, 1], [2, 0]])
    at_once = map_images(take)(x, index)
    text = str(jax.make_jaxpr(using("xla")(map_images(take)))(x, index))
    assert "operand_batching_dims=()" in text
    assert "operand_batching_dims=(0,)" not in text
    assert "operand_batching_dims=(0,)" in str(jax.make_jaxpr(map_images(take))(x, index))
    with using("xla"):
        in_turn = map_images(take)(x, index)
    for key, value in at_once.items():
        np.testing.assert_array_equal(value, in_turn[key])
