"""ONNX through jax2onnx, in an environment of its own: it pins older libraries than jaxseg's.

``make onnx-env`` builds that environment. Here a process of it is started on a model's folder; this same file is what
runs there.
"""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxseg.errors import BadInput, FailedRun
from jaxseg.export import folder
from jaxseg.export.differences import largest_difference, probe_picture
from jaxseg.export.folder import Card, card_text
from jaxseg.export.stablehlo import forward_of
from jaxseg.files import atomic
from jaxseg.ops.backend import using

ENVIRONMENT = ".venv-onnx"
"""Path that ``make onnx-env`` creates; the variable ``JAXSEG_ONNX_PYTHON`` names another interpreter."""


def write(path: Path, card: Card, variables: Any, *, size: tuple[int, int], channels: int = 3) -> str:
    """Write an ONNX file from raw pixels ``u8[b h w c]`` to predictions, for any batch, or for one image where jax2onnx
    cannot translate more, as of detectors.

    The outputs bear the names of the predictions: ``probability``, or if the task predicts none all that it does.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> card = Card(unet(num_classes=2), Semantic(2), "unet", ("road", "car"), ((0, 0, 0), (255, 0, 0)))
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, JAXSEG_ONNX_PYTHON="no/python"):
    ...     write(Path("unet.onnx"), card, {"params": {}}, size=(64, 64))
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: ONNX needs jax2onnx in an environment of its own: make onnx-env (no 'no/python' here)

    Args:
      path: of the file.
      card: gives model and task; classes and palette go into the file's metadata.
      variables: of the model.
      size: height and width.
      channels: of the images.

    Returns:
      The shape that the file takes, such as ``B 64 64 3``.

    Raises:
      BadInput: the environment is not there.
      FailedRun: the network could not be translated.
    """
    return _elsewhere("write", card, variables, path, *map(str, (*size, channels)))


def verify(path: Path, card: Card, variables: Any) -> float:
    """Return the largest difference of any predicted number between onnxruntime and ``model.apply``.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> card = Card(unet(num_classes=2), Semantic(2), "unet", ("road", "car"), ((0, 0, 0), (255, 0, 0)))
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, JAXSEG_ONNX_PYTHON="no/python"):
    ...     verify(Path("unet.onnx"), card, {"params": {}})
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: ONNX needs jax2onnx in an environment of its own: make onnx-env (no 'no/python' here)

    Raises:
      BadInput: the environment is not there.
      FailedRun: the file could not be run.
    """
    return float(json.loads(_elsewhere("verify", card, variables, path))["error"])


def _elsewhere(act: str, card: Card, variables: Any, path: Path, *words: str) -> str:
    """Run this file in the environment that has jax2onnx; return the last line that it prints."""
    python = interpreter()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with tempfile.TemporaryDirectory() as work:
        folder.write(Path(work) / "model", card, variables)
        command = [python, "-m", "jaxseg.export.onnx", act, str(Path(work) / "model"), str(path), *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["?"]
        reason = next((line for line in reversed(lines) if "Error" in line), lines[-1])
        raise FailedRun(f"the network could not be {'translated to' if act == 'write' else 'run as'} ONNX: {reason}")
    return (done.stdout.splitlines() or [""])[-1]


def interpreter() -> str:
    """Return the Python that has jax2onnx: this one, or that of ``make onnx-env``.

    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, JAXSEG_ONNX_PYTHON=sys.executable):
    ...     interpreter() == sys.executable
    True

    Raises:
      BadInput: there is none.
    """
    if importlib.util.find_spec("jax2onnx") is not None:
        return sys.executable
    found = Path(os.environ.get("JAXSEG_ONNX_PYTHON") or f"{ENVIRONMENT}/bin/python")
    if not found.is_file():
        raise BadInput(f"ONNX needs jax2onnx in an environment of its own: make onnx-env (no {str(found)!r} here)")
    return str(found.absolute())


def translate(source: Path, path: Path, size: tuple[int, int], channels: int) -> str:
    """Translate a model's folder and return the shape that the file takes; runs in the other environment.

    >>> translate(Path("unet"), Path("unet.onnx"), (64, 64), channels=3)  # doctest: +SKIP
    """
    jax2onnx, onnx = (importlib.import_module(name) for name in ("jax2onnx", "onnx"))
    card, variables = folder.read(source)
    forward = forward_of(card, jax.tree.map(np.array, variables))

    def predictions(image: jax.Array) -> tuple[jax.Array, ...]:
        # runtimes pad and slice floats, not bytes; of other than colours the type says the range
        return tuple(_exported(forward(image.astype(jnp.float32) if channels == 3 else image)).values())

    example = jax.ShapeDtypeStruct((1, *size, channels), np.uint8)
    names = list(_exported(jax.eval_shape(forward, example)))
    text = ""
    for batch in ("B", 1):  # some operations are translated for a batch of known size only
        text = f"{batch}, {size[0]}, {size[1]}, {channels}"
        shape = export.symbolic_shape(text)
        try:
            given = [jax.ShapeDtypeStruct(shape, np.uint8)]
            made = jax2onnx.to_onnx(using("xla")(predictions), given, model_name=card.name, output_names=names)
            break
        except Exception:
            if batch == 1:
                raise
    onnx.helper.set_model_props(made, {"jaxseg": card_text(card)})
    with atomic(path) as part:
        onnx.save(made, part)
    return text.replace(",", "")


def compare(source: Path, path: Path) -> float:
    """Return the largest difference between a file and a model's folder; runs in the other environment.

    >>> compare(Path("unet"), Path("unet.onnx")) < 1e-4  # doctest: +SKIP
    True
    """
    onnxruntime = importlib.import_module("onnxruntime")
    card, variables = folder.read(source)
    session = onnxruntime.InferenceSession(str(path))
    given = session.get_inputs()[0]
    rows = given.shape[0] if isinstance(given.shape[0], int) else 2
    image = probe_picture(rows, *given.shape[1:])
    wanted = _exported(jax.jit(forward_of(card, jax.tree.map(np.array, variables)))(jnp.asarray(image)))
    names = [output.name for output in session.get_outputs()]
    return largest_difference(dict(zip(names, session.run(names, {given.name: image}), strict=True)), wanted)


def _exported(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the predictions that a file gives: probabilities, or all where there are none."""
    return {name: found[name] for name in (["probability"] if "probability" in found else sorted(found))}


if __name__ == "__main__":
    _, act, source, target, *words = sys.argv
    if act == "write":
        height, width, bands = map(int, words)
        print(translate(Path(source), Path(target), (height, width), bands))
    else:
        print(json.dumps({"error": compare(Path(source), Path(target))}))
