"""Statistics of pixels and class names are those that a folder states; what had to be assumed is said."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseg
from jaxseg.conversion.pixels import read_classes, read_statistics, statistics_of, with_statistics
from jaxseg.errors import BadInput
from jaxseg.layers.standardize import CAFFE, CENTRED, IMAGENET, NAMED, UNIT, Standardize
from jaxseg.models.semantic.fcn import TORCHVISION_NAMES, fcn_resnet50
from jaxseg.override import override_text, parse_argument
from jaxseg.registry import create_model
from jaxseg.weights.names import restore

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


def transformers(image, *, do_rescale=True, rescale_factor=1 / 255, do_normalize=True, image_mean=MEAN, image_std=STD):
    """What transformers' image processors do, written out."""
    x = image.astype(np.float64)
    x = x * rescale_factor if do_rescale else x
    return (x - np.array(image_mean)) / np.array(image_std) if do_normalize else x


def albumentations(image, *, mean=MEAN, std=STD, max_pixel_value=255.0):
    """``Normalize`` of albumentations, written out."""
    x = image.astype(np.float64) - np.array(mean) * max_pixel_value
    return x / (np.array(std) * max_pixel_value)


def smp(image, *, mean=MEAN, std=STD, input_range=(0, 1), input_space="RGB"):
    """``preprocess_input`` of segmentation-models-pytorch, written out."""
    x = image[..., ::-1] if input_space == "BGR" else image
    x = x.astype(np.float64) / 255 if input_range[1] == 1 else x.astype(np.float64)
    return (x - np.array(mean)) / np.array(std)


@pytest.mark.parametrize(
    ("file", "oracle", "options"),
    [
        ("preprocessor_config.json", transformers, {"image_mean": MEAN, "image_std": STD}),
        ("preprocessor_config.json", transformers, {"do_normalize": False}),
        (
            "preprocessor_config.json",
            transformers,
            {"do_rescale": False, "image_mean": (9, 8, 7), "image_std": STD},
        ),
        (
            "preprocessor_config.json",
            transformers,
            {"rescale_factor": 1 / 127.5, "image_mean": MEAN, "image_std": STD},
        ),
        ("preprocessor_config.json", transformers, {"image_mean": IMAGENET.mean, "image_std": IMAGENET.std}),
        ("albumentations_config_eval.json", albumentations, {"mean": MEAN, "std": STD, "max_pixel_value": 255.0}),
        ("albumentations_config_eval.json", albumentations, {"mean": MEAN, "std": STD, "max_pixel_value": 1.0}),
        ("config.json", smp, {"mean": MEAN, "std": STD, "input_range": [0, 1], "input_space": "RGB"}),
        ("config.json", smp, {"mean": (9, 8, 7), "std": STD, "input_range": [0, 255], "input_space": "BGR"}),
    ],
)
def test_pixels_become_what_the_folder_s_own_library_makes_of_them(tmp_path, file, oracle, options):
    stated = dict(options)
    if file.startswith("albumentations"):
        inner = {"__class_fullname__": "Normalize", "normalization": "standard", **options}
        resize = {"__class_fullname__": "Resize", "height": 8, "width": 8}
        stated = {"__version__": "2", "transform": {"__class_fullname__": "Compose", "transforms": [resize, inner]}}
    (tmp_path / file).write_text(json.dumps(stated))
    found = read_statistics(tmp_path)
    assert found is not None
    assert found[1] == file
    image = np.random.default_rng(0).integers(0, 256, (1, 5, 7, 3), dtype=np.uint8)
    np.testing.assert_allclose(found[0](jnp.asarray(image)), oracle(image, **options), rtol=1e-4, atol=1e-4)


def test_a_folder_that_states_none_or_nonsense(tmp_path):
    assert read_statistics(tmp_path) is None
    (tmp_path / "config.json").write_text('{"_model_class": "Unet", "mean": null}')
    assert read_statistics(tmp_path) is None
    for text, message in (
        ('{"image_mean": [0.5], "image_std": [0.5, 1]}', "preprocessor_config.json states no statistics"),
        ('{"image_mean": "grey", "image_std": 3}', "states no statistics"),
        ('{"image_mean": [1], "image_std": [0]}', "states no statistics"),
        ("{", "is damaged"),
    ):
        (tmp_path / "preprocessor_config.json").write_text(text)
        with pytest.raises(BadInput, match=message):
            read_statistics(tmp_path)


def test_class_names_are_those_of_id2label(tmp_path):
    for labels, classes in (
        ({"1": "sky", "0": "road"}, ("road", "sky")),
        ({"0": "LABEL_0", "1": "LABEL_1"}, ()),
        ({"0": "sky", "2": "road"}, ()),
        ({"0": "sky", "1": "sky"}, ()),
        (["sky"], ()),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"id2label": labels}))
        assert read_classes(tmp_path) == classes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A narrow FCN of 3 classes as transformers lays a model out."""
    from safetensors.numpy import save_file

    path = tmp_path_factory.mktemp("hosted")
    model = fcn_resnet50(num_classes=3, width=4)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.3, leaf.shape).astype(np.float32), shapes)
    save_file(restore(variables, TORCHVISION_NAMES), path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"id2label": {"0": "sky", "1": "road", "2": "car"}}))
    (path / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return path


def test_a_folder_of_transformers_gives_statistics_and_classes(folder, tmp_path):
    run = jaxseg.load(folder, "fcn_resnet50", width=4)
    assert statistics_of(run.model) == Standardize(MEAN, STD, 1 / 255)
    assert run.facts.classes == run.task.classes == ("sky", "road", "car")
    (line,) = run.card.origin["report"]
    assert "mean (0.1, 0.2, 0.3), std (0.4, 0.5, 0.6), pixels times 1/255, rgb (preprocessor_config.json)" in line
    jaxseg.save(run, tmp_path / "model")
    assert statistics_of(jaxseg.load(tmp_path / "model").model) == Standardize(MEAN, STD, 1 / 255)


def test_without_a_word_of_the_source_the_assumption_is_said(folder, tmp_path):
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    run = jaxseg.load(tmp_path, "fcn_resnet50", width=4, num_classes=3)
    assert statistics_of(run.model) == IMAGENET
    assert "(assumed, as the source states none)" in run.card.origin["report"][0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("imagenet", IMAGENET),
        ("'unit'", UNIT),
        ("Centred", CENTRED),
        ("caffe", CAFFE),
        ("((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))", Standardize(MEAN, STD, 1 / 255)),
        ("[[104, 117, 123], [1, 1, 1]]", Standardize((104.0, 117.0, 123.0), (1.0, 1.0, 1.0))),
        ("Standardize((1.0, 1.0, 1.0), scale=0.5, order='bgr')", Standardize((1.0, 1.0, 1.0), scale=0.5, order="bgr")),
    ],
)
def test_every_spelling_works_wherever_statistics_are_set(folder, tmp_path, jaxseg_command, text, expected):
    model = fcn_resnet50(num_classes=3, width=4)
    assert statistics_of(override_text(model, f"backbone.standardize={text}")) == expected
    assert parse_argument(text, fcn_resnet50, "standardize") == expected
    if text in ("Centred", "((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))"):
        words = ("--model", "fcn_resnet50", "--set", "width=4", "--set", f"standardize={text}")
        status, out = jaxseg_command("import", folder, *words, "--out", tmp_path / "model")
        assert status == 0
        assert "(as given)" in out
        assert statistics_of(jaxseg.load(tmp_path / "model").model) == expected


@pytest.fixture
def jaxseg_command(capsys, monkeypatch):
    from jaxseg.cli.main import main

    monkeypatch.setenv("JAXSEG_CACHE", "off")

    def run(*words):
        status = main([str(word) for word in words])
        return status, capsys.readouterr().out

    return run


def test_python_takes_names_too(folder):
    for value, expected in (("unit", UNIT), ((MEAN, STD), Standardize(MEAN, STD, 1 / 255)), (CENTRED, CENTRED)):
        run = jaxseg.load(folder, "fcn_resnet50", width=4, standardize=value)
        assert statistics_of(run.model) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imagent", "no statistics of pixels are called 'imagent'; did you mean 'imagenet'"),
        ("((0.5,), (0.5, 0.5))", "must be a name or"),
        ("((0.5,), (0.0,))", "must be a name or"),
        ("3", "must be"),
    ],
)
def test_other_spellings_are_refused(text, message):
    model = fcn_resnet50(num_classes=3, width=4)
    with pytest.raises(BadInput, match=message) as error:
        override_text(model, f"backbone.standardize={text}")
    assert "backbone.standardize" in str(error.value)


def test_statistics_are_found_and_set_in_every_registered_network():
    from jaxseg import registry

    chosen = Standardize((0.5, 0.25, 0.125), (0.5, 0.25, 0.125), 1 / 255)
    without = []
    for name in registry.list_models():
        model = create_model(name)
        if statistics_of(model) is None:
            without.append(name)
        else:
            assert statistics_of(with_statistics(model, chosen)) == chosen, name
    assert set(NAMED.values()) > {IMAGENET}
    assert len(without) < 10, without
