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
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxseg.errors import BadInput, FailedRun
from jaxseg.export import folder
from jaxseg.export.folder import Card, card_text
from jaxseg.export.stablehlo import forward_of
from jaxseg.files import atomic
from jaxseg.ops.backend import using

ENVIRONMENT = ".venv-onnx"
"""Where ``make onnx-env`` puts it; the variable ``JAXSEG_ONNX_PYTHON`` names another interpreter."""


def write(path: Path, card: Card, variables: Any, *, size: tuple[int, int]) -> float:
    """Write an ONNX file from raw pixels ``u8[b h w 3]`` to probabilities, for any batch, or for one image
    where jax2onnx cannot translate more.

    Args:
      path: of the file.
      card: gives model and task; classes and palette go into the file's metadata.
      variables: of the model.
      size: height and width.

    Returns:
      The largest difference of any probability between onnxruntime and ``model.apply``.

    Raises:
      BadInput: the environment is not there.
      FailedRun: the network could not be translated.
    """
    python = interpreter()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with tempfile.TemporaryDirectory() as work:
        folder.write(Path(work) / "model", card, variables)
        words = [python, "-m", "jaxseg.export.onnx", str(Path(work) / "model"), str(path), str(size[0]), str(size[1])]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["?"]
        reason = next((line for line in reversed(lines) if "Error" in line), lines[-1])
        raise FailedRun(f"the network could not be translated to ONNX: {reason}")
    return float(json.loads(done.stdout.splitlines()[-1])["error"])


def interpreter() -> str:
    """The Python that has jax2onnx: this one, or that of ``make onnx-env``.

    Raises:
      BadInput: there is none.
    """
    if importlib.util.find_spec("jax2onnx") is not None:
        return sys.executable
    found = Path(os.environ.get("JAXSEG_ONNX_PYTHON") or f"{ENVIRONMENT}/bin/python")
    if not found.is_file():
        raise BadInput(f"ONNX needs jax2onnx in an environment of its own: make onnx-env (no {str(found)!r} here)")
    return str(found.absolute())


def translate(source: Path, path: Path, size: tuple[int, int]) -> float:
    """What runs there: translate a model's folder, run it in onnxruntime, return the largest difference."""
    jax2onnx, onnx, onnxruntime = (importlib.import_module(n) for n in ("jax2onnx", "onnx", "onnxruntime"))
    card, variables = folder.read(source)
    variables = jax.tree.map(np.array, variables)
    forward = forward_of(card, variables)

    def probability(image: jax.Array) -> jax.Array:
        return forward(image.astype(jnp.float32))["probability"]  # runtimes pad and slice floats, not bytes

    image = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    wanted = np.asarray(jax.jit(probability)(jnp.asarray(image)))
    for batch in ("B", 1):  # some operations are translated for a batch of known size only
        shape = export.symbolic_shape(f"{batch}, {size[0]}, {size[1]}, 3")
        try:
            given = [jax.ShapeDtypeStruct(shape, np.uint8)]
            made = jax2onnx.to_onnx(using("xla")(probability), given, model_name=card.name)
            break
        except Exception:
            if batch == 1:
                raise
    onnx.helper.set_model_props(made, {"jaxseg": card_text(card)})
    with atomic(path) as part:
        onnx.save(made, part)
    rows = 1 if batch == 1 else 2
    session = onnxruntime.InferenceSession(str(path))
    found = session.run(None, {session.get_inputs()[0].name: image[:rows]})[0]
    return float(np.abs(found - wanted[:rows]).max())


if __name__ == "__main__":
    _, source, target, height, width = sys.argv
    print(json.dumps({"error": translate(Path(source), Path(target), (int(height), int(width)))}))
