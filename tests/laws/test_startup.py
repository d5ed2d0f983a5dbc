"""``import jaxseg`` is cheap, and brings in neither TensorFlow nor torch."""

import json
import os
import subprocess
import sys

from tests.laws.tree import ROOT

BUDGET = 0.5
"""Seconds of processor time that ``import jaxseg`` may add to ``import jax, flax.linen``."""

PROGRAM = """
import json, sys, time
import jax, flax.linen
start = time.process_time()
import jaxseg
seconds = time.process_time() - start
{more}
print(json.dumps({{"seconds": seconds, "modules": sorted(sys.modules)}}))
"""


def fresh(more: str = "") -> dict:
    """What a new interpreter says after ``import jaxseg`` and the given statements."""
    environment = {k: v for k, v in os.environ.items() if k not in {"XLA_FLAGS", "PYTHONWARNINGS"}}
    program = PROGRAM.format(more=more)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_import_is_cheap():
    fastest = min(fresh()["seconds"] for _ in range(2))
    assert fastest < BUDGET, f"import jaxseg took {fastest:.2f} s"


def test_no_tensorflow_and_no_torch():
    every = """
import importlib, pkgutil
for module in pkgutil.walk_packages(jaxseg.__path__, "jaxseg."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
jaxseg.list_models()
"""
    loaded = set(fresh(every)["modules"])
    assert "jaxseg.types" in loaded
    assert not loaded & {"tensorflow", "torch", "torchvision", "keras"}
