"""Record the hardware of a run: ``machines.jsonl`` in its work directory, one line per start or resumption."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import jax

FILE = "machines.jsonl"


def processor() -> str:
    """Return the processor's name as reported by the system.

    >>> isinstance(processor(), str)
    True
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of cores available to this process.

    >>> cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware(devices: int = 1) -> str:
    """Describe a number of devices: ``"2 x NVIDIA H100"``; for CPUs their cores: ``"1 core of AMD EPYC"``.

    >>> isinstance(hardware(1), str)
    True
    """
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return f"{cores()} core{'s' * (cores() > 1)} of {processor()}"
    return device.device_kind if devices == 1 else f"{devices} x {device.device_kind}"


def record(workdir: Path, stage: str, step: int, devices: int) -> None:
    """Append a line to a work directory's list of machines.

    >>> import tempfile
    >>> workdir = Path(tempfile.mkdtemp())
    >>> record(workdir, stage="0-main", step=0, devices=1)
    >>> (workdir / "machines.jsonl").read_text().count("0-main")
    1

    Args:
      workdir: of the run.
      stage: folder of the stage, "0-main".
      step: updates of that stage made before.
      devices: number of devices that share a batch.
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
