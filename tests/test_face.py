"""The public face: every name in it is there, and says what it is."""

import inspect

import pytest

import jaxseg


def test_every_public_name_is_there_and_documented():
    for name in jaxseg.__all__:
        assert inspect.getdoc(getattr(jaxseg, name)), name
        assert name in dir(jaxseg)


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="'jaxseg' has no attribute 'creat_model'"):
        jaxseg.creat_model
