"""``jaxseg show`` knows every model of the registry."""

import json

import pytest

from jaxseg import analysis, registry
from jaxseg.cli.main import main
from jaxseg.cli.show import facts_of

SMALL = [name for name, entry in registry.entries().items() if entry.small is not None or entry.overfit is not None]
USUAL = ("full_resolution_fcn", "manet_resnet34", "pan_resnet50", "retina_unet", "unet", "patch_classifier")
"""Of these the default tests make sure; the slow ones of every family."""


def small(name):
    return registry.create_overfit(name) if registry.find(name).small is None else registry.create_small(name)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in USUAL else pytest.mark.slow) for name in SMALL]
)
def test_every_family_is_followed(name, monkeypatch):
    """Its small variant, on a lower image: no operation of it is unknown to the trace."""
    monkeypatch.setattr(analysis, "LARGEST", 512)
    model = small(name)
    facts = facts_of(registry.find(name), model, 64)
    assert facts["output_stride"] is not None
    assert facts["output_stride"] >= 1
    assert facts["parameters"] > 0
    assert facts["gflops"] > 0
    assert facts["module"].startswith("jaxseg.models.")
    json.dumps(facts)


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.entries())
def test_every_model_is_shown(name, capsys):
    assert main(["show", name, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["name"] == name
    assert facts["output_stride"] >= 1


def test_a_model_that_is_not_followed_is_shown_all_the_same(capsys, monkeypatch):
    def fails(model):
        raise IndexError("tuple index out of range")

    monkeypatch.setattr(analysis, "receptive_field", fails)
    assert main(["show", "full_resolution_fcn"]) == 0
    said = capsys.readouterr().out
    assert said.count("not known") == 3
    assert main(["show", "full_resolution_fcn", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["receptive_field"] is None


def test_a_network_without_logits_is_shown_too(capsys):
    assert main(["show", "ssd300_mobilenet_v1_075", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] == 4_101_231
    assert facts["gflops"] > 1
    assert facts["receptive_field"] is None


def test_statistics_of_the_whole_image_make_the_receptive_field_the_whole_image():
    """What the image's extremes stretch depends on every pixel."""
    assert analysis.receptive_field(registry.create_small("retina_unet")).field is None
