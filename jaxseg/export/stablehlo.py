"""One file for JAX (and flatbuffers) alone: the compiled program, its weights inside, classes and palette beside it.

The file is a zip of ``program.bin`` (``jax.export``) and ``card.json``. In a process without jaxseg::

    with zipfile.ZipFile("model.stablehlo") as file:
        program = jax.export.deserialize(bytearray(file.read("program.bin")))
        card = json.loads(file.read("card.json"))
    probability = program.call(image)["probability"]  # image u8[b h w 3], raw RGB

A detector's program is of one size of image, for any batch, and returns the slots of :data:`jaxseg.types.PREDICTIONS`:
``boxes``, ``scores``, ``classes``, ``valid``, and what else it predicts of them.
"""

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxseg.errors import BadInput
from jaxseg.export.differences import largest_difference
from jaxseg.export.folder import Card, card_text
from jaxseg.files import atomic
from jaxseg.forward import forward

PLATFORMS = ("cpu", "cuda", "tpu")

ANY_SIZE = ("b, h, w", "b, 32*h, 32*w")
"""Rows and columns left open; or, where a network does not pad inside, open but for a factor that strides divide."""

PROGRAM, CARD = "program.bin", "card.json"


def write(
    path: Path,
    card: Card,
    variables: Any,
    *,
    size: tuple[int, int] | None,
    channels: int = 3,
    platforms: Sequence[str] = PLATFORMS,
) -> str:
    """Write the program from raw pixels ``u8[b h w 3]`` to the task's predictions, for any batch.

    >>> import tempfile
    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> model, image = unet(num_classes=2, depth=1, width=1), jnp.zeros((1, 8, 8, 3), jnp.uint8)
    >>> variables = jax.jit(model.init)(jax.random.key(0), image)
    >>> card = Card(model, Semantic(2), "tiny", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    >>> path = Path(tempfile.mkdtemp()) / "tiny.stablehlo"
    >>> write(path, card, variables, size=(8, 8), platforms=("cpu",))
    'b 8 8 3'

    Args:
      path: of the file.
      card: gives model and task, and goes into the file.
      variables: of the model; they become constants of the program.
      size: height and width; None leaves them open where the network can be traced so.
      channels: of the images.
      platforms: that the program is lowered for.

    Returns:
      The shape that the program takes, such as ``b h w 3``.

    Raises:
      BadInput: the network needs a size.
    """
    program_of = forward_of(card, variables)
    sides = ANY_SIZE if size is None else (f"b, {size[0]}, {size[1]}",)
    program, reason, text = None, "", ""
    for text in (f"{shape}, {channels}" for shape in sides):
        image = jax.ShapeDtypeStruct(export.symbolic_shape(text), np.uint8)
        try:
            program = export.export(jax.jit(program_of), platforms=list(platforms))(image)
            break
        except Exception as error:
            if size is not None:
                raise
            reason = " ".join(str(error).split())[:160]
    if program is None:
        raise BadInput(f"this network needs a size: --size HEIGHT WIDTH (any size stops at: {reason})")
    with atomic(path) as part, zipfile.ZipFile(part, "w") as file:
        file.writestr(PROGRAM, bytes(program.serialize()))
        file.writestr(CARD, card_text(card))
    return text.replace(",", "")


def read(path: Path) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the program and the card in a file that ``write`` wrote.

    >>> import tempfile
    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> model, image = unet(num_classes=2, depth=1, width=1), jnp.zeros((1, 8, 8, 3), jnp.uint8)
    >>> variables = jax.jit(model.init)(jax.random.key(0), image)
    >>> card = Card(model, Semantic(2), "tiny", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    >>> path = Path(tempfile.mkdtemp()) / "tiny.stablehlo"
    >>> _ = write(path, card, variables, size=(8, 8), platforms=("cpu",))
    >>> program, found = read(path)
    >>> program(image)["probability"].shape, found["classes"]
    ((1, 8, 8, 2), ['a', 'b'])
    """
    with zipfile.ZipFile(path) as file:
        program = export.deserialize(bytearray(file.read(PROGRAM)))
        return program.call, json.loads(file.read(CARD))


def takes_any_size(path: Path) -> bool:
    """Return True if the program in a file takes images of any height and width.

    >>> import tempfile, jax
    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> model, image = unet(num_classes=2, depth=1, width=1), jnp.zeros((1, 8, 8, 3), jnp.uint8)
    >>> variables = model.init(jax.random.key(0), image)
    >>> card = Card(model, Semantic(2), "tiny", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "tiny.stablehlo"
    ...     _ = write(file, card, variables, size=(8, 8), platforms=("cpu",))
    ...     takes_any_size(file)
    False
    """
    with zipfile.ZipFile(path) as file:
        program = export.deserialize(bytearray(file.read(PROGRAM)))
    shape = program.in_avals[0].shape
    return [str(side) for side in shape[1:3]] == ["h", "w"]


def verify(path: Path, card: Card, variables: Any, image: np.ndarray) -> float:
    """Return the largest difference of any predicted number between the file's program and ``model.apply``.

    See :func:`jaxseg.export.differences.largest_difference`.

    >>> import tempfile
    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> model, image = unet(num_classes=2, depth=1, width=1), jnp.zeros((1, 8, 8, 3), jnp.uint8)
    >>> variables = jax.jit(model.init)(jax.random.key(0), image)
    >>> card = Card(model, Semantic(2), "tiny", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    >>> path = Path(tempfile.mkdtemp()) / "tiny.stablehlo"
    >>> _ = write(path, card, variables, size=(8, 8), platforms=("cpu",))
    >>> verify(path, card, variables, np.asarray(image)) < 1e-5
    True
    """
    found, wanted = read(path)[0](image), jax.jit(forward_of(card, variables))(jnp.asarray(image))
    return largest_difference(found, wanted)


def forward_of(card: Card, variables: Any) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """Return the function from raw pixels to the task's predictions.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> model, image = unet(num_classes=2, depth=1, width=1), jnp.zeros((1, 8, 8, 3), jnp.uint8)
    >>> variables = jax.jit(model.init)(jax.random.key(0), image)
    >>> card = Card(model, Semantic(2), "tiny", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    >>> jax.jit(forward_of(card, variables))(image)["probability"].shape
    (1, 8, 8, 2)
    """

    predict = forward(card.model, card.task)

    def predictions(image: jax.Array) -> dict[str, jax.Array]:
        return predict(jax.tree.map(jnp.asarray, variables), {"image": image})

    return predictions
