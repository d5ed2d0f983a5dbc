"""A network so narrow that commands train it in seconds."""

import dataclasses
import functools

import pytest

from jaxseg import registry


@pytest.fixture
def narrow(monkeypatch, tmp_path):
    """U-Net of one level and four channels under its own name, in an empty folder."""
    known = registry.find("unet")
    build = functools.partial(known.build, depth=1, width=4)
    monkeypatch.setitem(registry._entries, "unet", dataclasses.replace(known, build=build))
    monkeypatch.chdir(tmp_path)
    return tmp_path
