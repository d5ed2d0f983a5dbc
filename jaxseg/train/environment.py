"""What a run was trained on: ``machines.jsonl`` in its work directory, a line each time that training began."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import jax

FILE = "machines.jsonl"


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware(devices: int = 1) -> str:
    """So many devices in words: ``"2 x NVIDIA H100"``; those of a CPU are its cores: ``"1 core of AMD EPYC"``."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return f"{cores()} core{'s' * (cores() > 1)} of {processor()}"
    return device.device_kind if devices == 1 else f"{devices} x {device.device_kind}"


def record(workdir: Path, stage: str, step: int, devices: int) -> None:
    """Append a line to a work directory's list of machines.

    Args:
      workdir: of the run.
      stage: the stage's folder, "0-main".
      step: the updates of that stage that were made before.
      devices: how many share a batch.
    """
    row = {
        "stage": stage,
        "step": step,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(devices),
        "jax": jax.__version__,
    }
    with (workdir / FILE).open("a") as file:
        file.write(json.dumps(row) + "\n")
