"""Names of weights as training programs leave them: prefixes, copies, buffers beside the network, foreign objects."""

import argparse
import datetime

import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.weights.prefixes import fitting_prefix, prefixes, without_prefix
from jaxseg.weights.readers import read

RULES = ((r"(.*)\.weight", r"\1/kernel"), (r"(.*)\.bias", r"\1/bias"))
LEAVES = {f"layer{i}/{leaf}" for i in range(5) for leaf in ("kernel", "bias")}
STATE = {f"layer{i}.{leaf}": np.full(2, i) for i in range(5) for leaf in ("weight", "bias")}


def fitted(source):
    return fitting_prefix(source, LEAVES, [RULES])


def under(prefix):
    return {f"{prefix}{name}": value for name, value in STATE.items()}


@pytest.mark.parametrize("prefix", ["", "model.", "net.", "segmentor.", "ema.module.", "0.", "any_word.at.all."])
def test_any_prefix_comes_off_and_is_named(prefix):
    found = fitted(under(prefix))
    assert (found.source.keys(), found.prefix, found.outside) == (STATE.keys(), prefix, ())
    assert found.notes == ((f"names without their prefix {prefix!r}",) if prefix else ())


def test_buffers_copies_and_heads_of_losses_stay_outside_and_are_named():
    beside = {"mean": np.zeros(3), "std": np.ones(3), "criterion.weight": np.ones(9)}
    found = fitted({**under("model."), **under("model_ema.module."), **beside})
    assert found.prefix == "model."
    assert found.source.keys() == STATE.keys()
    assert found.notes[1] == "left out, as not under it: model_ema.* (10), mean, std, criterion.* (1)"
    statistics = fitted({**STATE, "mean": np.zeros(3), "std": np.ones(3)})
    assert (statistics.prefix, statistics.outside) == ("", ("mean", "std"))


def test_weights_of_another_network_are_left_as_they_are():
    source = {f"model.block{i}.kernel": np.zeros(1) for i in range(4)}
    assert fitted(source).source == source
    unknown = {**STATE, "gain": np.zeros(1)}
    assert fitted(unknown).source.keys() == unknown.keys(), "a weight that no rule knows is not left out"


def test_the_user_s_prefix_counts_with_or_without_its_dot():
    both = {**under("model."), **under("model_ema.")}
    for word in ("model_ema", "model_ema."):
        assert without_prefix(both, word).source.keys() == STATE.keys()
    with pytest.raises(BadInput, match=r"no name begins with 'modl\.'.*did you mean 'model\.'"):
        without_prefix(both, "modl")
    assert next(iter(prefixes(under("net.")))) == "net."


torch = pytest.importorskip("torch", reason="the files are torch's (extra 'parity')")

BESIDE = {
    "args": argparse.Namespace(lr=0.1, when=datetime.datetime(2024, 5, 1)),
    "date": datetime.date(2024, 5, 1),
    "names": np.asarray(["road", "sky"]),
    "things": np.asarray([None, {1: 2}], object),
    "best_loss": torch.tensor(0.25),
    "epoch": np.float64(3),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", ["state_dict", "ema", "model_weights", None])
def test_foreign_objects_beside_the_weights_do_not_matter(tmp_path, wrapper, zipped):
    state = {name: torch.from_numpy(value) for name, value in STATE.items()}
    whole = {wrapper: state, **BESIDE} if wrapper else (state, argparse.Namespace(lr=0.1))
    torch.save(whole, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = fitted({name: value for name, value in read(tmp_path / "a.pth").items() if name != "best_loss"})
    assert found.source.keys() == STATE.keys()
    for name, value in STATE.items():
        np.testing.assert_array_equal(found.source[name], value)


def test_foreign_objects_among_the_weights_are_refused_by_name(tmp_path):
    state = {name: torch.from_numpy(value) for name, value in STATE.items()}
    torch.save({"state_dict": {**state, "layer9.weight": argparse.Namespace()}}, tmp_path / "a.pth")
    with pytest.raises(BadInput, match=r"names 'argparse\.Namespace' among its weights, as 'layer9\.weight'"):
        read(tmp_path / "a.pth")
    torch.save({"state_dict": argparse.Namespace()}, tmp_path / "b.pth")
    with pytest.raises(BadInput, match=r"names 'argparse\.Namespace', which is neither.*save the state_dict alone"):
        read(tmp_path / "b.pth")
