"""The tiny training of its own tests."""

from tests.cli.conftest import trained

__all__ = ["trained"]
