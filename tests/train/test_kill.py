"""A run that is killed without warning and started again ends as if nothing had happened, to the bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxseg.train import checkpoint
from jaxseg.train.log import MEASURED, read_rows
from tests.train.real_run import STEPS

ROOT = Path(__file__).parents[2]


def start(data, workdir, workers):
    command = [sys.executable, "-m", "tests.train.real_run", str(data), str(workdir), str(workers)]
    cache = str(ROOT / ".cache" / "xla")
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said


def kill_when(process, workdir, rows):
    """SIGKILL as soon as so many rows are written; workers, which nobody killed, must go by themselves."""
    until = time.monotonic() + 240
    while process.poll() is None and len(read_rows(workdir / "metrics.jsonl")) < rows and time.monotonic() < until:
        time.sleep(0.002)
    assert process.poll() is None, f"over before row {rows}: {process.stderr.read()}"
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    try:
        process.communicate(timeout=60)  # ends when nobody holds its stderr any more
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail("workers outlived the run by a minute")


def rows(workdir):
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in read_rows(workdir / "metrics.jsonl")]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    data, workdir = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("straight")
    finish(start(data, workdir, 0))
    return data, workdir


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_killed_run_ends_bit_identical(straight, tmp_path, workers):
    data, reference = straight
    row = random.Random().randrange(2, STEPS - 8)
    print("killed after row", row)
    kill_when(start(data, tmp_path, workers), tmp_path, row)
    finish(start(data, tmp_path, workers))
    ours, theirs = (checkpoint.read(w / "stages" / "0-main" / "checkpoints") for w in (tmp_path, reference))
    assert ours.step == theirs.step == STEPS
    assert set(ours.state) == {"step", "params", "model_state", "opt_state", "ema", "key"}
    jax.tree.map(np.testing.assert_array_equal, ours.state, theirs.state)
    assert {k: v for k, v in ours.notes.items() if k != "recipe"} == {
        k: v for k, v in theirs.notes.items() if k != "recipe"
    }
    assert rows(tmp_path) == rows(reference)
    assert len(rows(reference)) == STEPS + 1
