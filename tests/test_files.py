"""Folders for caches, data and weights, as the environment says."""

from pathlib import Path

import pytest

from jaxseg import files

VARIABLES = ("JAXSEG_CACHE", "JAXSEG_DATA_DIR", "JAXSEG_WEIGHTS_DIR", "XDG_CACHE_HOME")


@pytest.fixture
def say(monkeypatch):
    """Set these variables, and no others that count; HOME is /me."""
    monkeypatch.setenv("HOME", "/me")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def setenv(**words):
        for name, word in words.items():
            monkeypatch.setenv(name, word)

    return setenv


@pytest.mark.parametrize(
    ("words", "cache", "data", "weights"),
    [
        ({}, "/me/.cache/jaxseg", "/me/.cache/jaxseg/data", "/me/.cache/jaxseg/weights"),
        ({"XDG_CACHE_HOME": "/big"}, "/big/jaxseg", "/big/jaxseg/data", "/big/jaxseg/weights"),
        (
            {"JAXSEG_CACHE": "~/kept", "XDG_CACHE_HOME": "/big"},
            "/me/kept",
            "/me/kept/data",
            "/me/kept/weights",
        ),
        ({"JAXSEG_CACHE": "off"}, None, "/me/.cache/jaxseg/data", "/me/.cache/jaxseg/weights"),
        ({"JAXSEG_CACHE": "0", "XDG_CACHE_HOME": "/big"}, None, "/big/jaxseg/data", "/big/jaxseg/weights"),
        (
            {"JAXSEG_DATA_DIR": "~/d", "JAXSEG_WEIGHTS_DIR": "/w"},
            "/me/.cache/jaxseg",
            "/me/d",
            "/w",
        ),
    ],
)
def test_folders_are_where_the_environment_says(say, words, cache, data, weights):
    say(**words)
    assert files.cache_dir() == (None if cache is None else Path(cache))
    assert files.default_data_dir() == Path(data)
    assert files.default_weights_dir() == Path(weights)


def test_tests_never_touch_the_users_own():
    for folder in (files.default_data_dir(), files.default_weights_dir()):
        assert not folder.is_relative_to(Path.home() / ".cache")
