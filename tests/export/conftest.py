"""The command line and the tiny training of its own tests."""

from tests.cli.conftest import jaxseg, trained

__all__ = ["jaxseg", "trained"]
