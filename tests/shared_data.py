"""Real data that lie beside the checkout, when they do: not part of the project."""

from pathlib import Path

import pytest


def shared_data(name: str) -> Path:
    """The folder ``../shared/data/NAME`` beside the checkout, or a skip that says that it is absent."""
    return _beside("data", name)


def weights_or_skip(name: str) -> Path:
    """The folder ``../shared/weights/NAME`` beside the checkout, or a skip that says that it is absent."""
    return _beside("weights", name)


def _beside(kind: str, name: str) -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / kind / name
    if not folder.is_dir():
        pytest.skip(f"the real {kind} {folder} are not on this machine")
    return folder
