"""Metrics of objects do not depend on how a split is cut into batches, or on how many processes share it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxseg.train.evaluate import evaluate
from tests.metrics.coco_cases import folded
from tests.metrics.joined_evaluation import COUNT, METRICS, Known, Nothing, batches, everything

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", METRICS)
def test_batches_of_any_size_give_the_same_figures(name):
    batch, found = everything()
    expected = folded(METRICS[name], batch, found, COUNT)
    assert expected
    for size in (1, 3, 8):
        assert folded(METRICS[name], batch, found, size) == expected


@pytest.mark.parametrize("name", METRICS)
def test_images_in_any_order_give_the_same_figures(name):
    """As processes that read every other image hand them on; scores tie, so that the order could matter."""
    batch, found = everything()
    expected = folded(METRICS[name], batch, found, 8)
    orders = [np.random.default_rng(seed).permutation(COUNT) for seed in range(3)]
    for processes in (2, 4):
        shards = [np.arange(start, COUNT, processes) for start in range(processes)]
        orders.append(np.concatenate([shard[i : i + 2] for i in range(0, COUNT, 2) for shard in shards]))
    for order in orders:
        assert sorted(order) == list(range(COUNT))
        assert folded(METRICS[name], batch, found, 8, order) == expected


def joined(processes, placement):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    running = []
    for index in range(processes):
        environment = {
            **os.environ,
            "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
            "JAX_PLATFORMS": "cpu",
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(index),
        }
        command = [sys.executable, "-m", "tests.metrics.joined_evaluation", placement]
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True))
    try:
        said = [process.communicate(timeout=240) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * processes, said[0][1]
    return {out.splitlines()[-1] for out, _ in said}


@pytest.mark.parametrize(
    ("processes", "placement"),
    [
        (2, "sharded"),
        pytest.param(2, "replicated", marks=pytest.mark.slow),
        pytest.param(4, "sharded", marks=pytest.mark.slow),
    ],
)
def test_processes_that_share_the_images_give_the_figures_of_one(processes, placement):
    alone = evaluate(Nothing(), {}, Known(), batches(0, 1, 5))
    assert joined(processes, placement) == {str(sorted(alone.items()))}
