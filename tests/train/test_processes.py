"""Two processes with two devices each train as one process does."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.train import checkpoint
from jaxseg.train.log import Console, read_rows
from jaxseg.train.loop import fit
from jaxseg.train.placement import join_cluster
from tests.train.joined_run import joined_recipe

ROOT = Path(__file__).parents[2]
STEPS = 6


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def two_processes(placement, workdir):
    """What both print: the metrics that ``fit`` returned."""
    address = f"127.0.0.1:{free_port()}"
    processes = []
    for index in range(2):
        environment = {
            **os.environ,
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",
            "JAX_PLATFORMS": "cpu",
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(index),
        }
        command = [sys.executable, "-m", "tests.train.joined_run", placement, str(workdir), str(STEPS)]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True))
    try:
        told = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], told[0][1] + told[1][1]
    return [out.splitlines()[-1] for out, _ in told]


@pytest.mark.parametrize("placement", ["sharded", pytest.param("replicated", marks=pytest.mark.slow)])
def test_two_processes_train_as_one(tmp_path, placement):
    one, two = tmp_path / "one", tmp_path / "two"
    metrics = fit(joined_recipe(STEPS), one, log=Console(quiet=True))
    assert metrics["rows"] == 7
    told = two_processes(placement, two)
    assert told[0] == told[1] == str(sorted(metrics.items()))
    ours, theirs = (checkpoint.read(workdir / "stages" / "0-main" / "checkpoints") for workdir in (two, one))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours.state, theirs.state)
    assert ours.notes["positions"] == [{"taken": STEPS}] * 2
    rows = [[(r["kind"], r["step"]) for r in read_rows(workdir / "metrics.jsonl")] for workdir in (one, two)]
    assert rows[0] == rows[1]
    assert len(list((two / "samples").iterdir())) == 2
    if placement == "sharded":  # and goes on as one
        shutil.rmtree(two / "stages" / "0-main" / "checkpoints" / str(STEPS))
        assert two_processes(placement, two) == told
        again = checkpoint.read(two / "stages" / "0-main" / "checkpoints")
        jax.tree.map(np.testing.assert_array_equal, again.state, ours.state)


def test_half_a_cluster_is_told(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(BadInput, match="set JAX_COORDINATOR_ADDRESS and JAX_PROCESS_ID too"):
        join_cluster()
    monkeypatch.delenv("JAX_NUM_PROCESSES")
    assert not join_cluster()


@pytest.mark.parametrize(
    ("environment", "joins"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "node[1-2]"}, True),
        ({"SLURM_NTASKS": "4"}, False),  # the batch script itself, outside srun
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "node1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
    ],
)
def test_launchers_are_recognised_by_what_they_set(monkeypatch, environment, joins):
    for name in ("SLURM_NTASKS", "SLURM_STEP_NODELIST", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    called = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args: called.append(args))
    join_cluster()
    assert called == ([()] if joins else [])
