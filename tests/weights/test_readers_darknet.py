"""Darknet's files: numbers without names, in the order that their .cfg says; and the real ones, where they are."""

import hashlib

import jax
import numpy as np
import pytest

from jaxseg import registry
from jaxseg.conversion.importer import from_file
from jaxseg.errors import BadInput
from jaxseg.models.detection import yolo_v3
from jaxseg.weights.readers import darknet, read
from tests.shared_data import weights_or_skip

CFG = """
[net]
width=8  # pixels
height=8
channels=3

[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky

[convolutional]
groups=2
filters=6
size=1

[maxpool]
size=2
stride=1

[route]
layers=-1,-3

[connected]
output=5
"""
COUNTS = (4, 4, 4, 4, 4 * 3 * 9, 6, 6 * 2, 5, 5 * 10 * 4 * 4)
ALL = sum(COUNTS)
NAMES = ("bn0.bias", "bn0.weight", "bn0.running_mean", "bn0.running_var", "conv0.weight", "conv1.bias", "conv1.weight")


def written(folder, *, header=(0, 2, 0), seen="<i8", numbers=ALL, cfg=CFG):
    path = folder / "a.weights"
    path.with_suffix(".cfg").write_text(cfg)
    values = np.arange(numbers, dtype="<f4")
    path.write_bytes(np.asarray(header, "<i4").tobytes() + np.zeros(1, seen).tobytes() + values.tobytes())
    return path


def test_numbers_come_in_the_order_of_the_layers_and_shapes_of_their_maps(tmp_path):
    found = read(written(tmp_path))
    assert tuple(found) == (*NAMES, "fc2.bias", "fc2.weight")
    assert [value.size for value in found.values()] == list(COUNTS)
    np.testing.assert_array_equal(np.concatenate([x.ravel() for x in found.values()]), np.arange(sum(COUNTS)))
    assert found["conv0.weight"].shape == (4, 3, 3, 3)
    assert found["conv1.weight"].shape == (6, 2, 1, 1)
    assert found["fc2.weight"].shape == (5, 160), "6 channels of the maximum and 4 of the first layer, 4x4"


def test_headers_of_all_ages_are_read(tmp_path):
    new = read(written(tmp_path))
    (tmp_path / "old").mkdir()
    old = read(written(tmp_path / "old", header=(0, 1, 0), seen="<i4"))
    for name in new:
        np.testing.assert_array_equal(new[name], old[name])
    (tmp_path / "turned").mkdir()
    turned = read(written(tmp_path / "turned", header=(1001, 0, 0), seen="<i4"))
    np.testing.assert_array_equal(turned["fc2.weight"].T.ravel(), new["fc2.weight"].ravel())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"numbers": ALL - 1}, "946 numbers, a.cfg describes 947: it is cut short, or the cfg is another"),
        ({"numbers": 0, "header": ()}, "0 numbers, a.cfg describes 947"),
        ({"numbers": ALL + 2}, "949 numbers, a.cfg describes 947: the cfg is another network's"),
        ({"cfg": CFG.replace("filters=6", "filters=8")}, "a.cfg describes 1,113"),
        ({"cfg": CFG.replace("filters=6", "filters=7")}, "4 channels and 7 filters do not split into 2 groups"),
        ({"cfg": CFG.replace("filters=6", "filters=-6")}, "line 15: filters=-6 of [convolutional] is no number from 1"),
        ({"cfg": CFG.replace("filters=6", "filters=six")}, "filters of [convolutional] is 'six', no whole number"),
        ({"cfg": CFG.replace("-1,-3", "-1,-7")}, "[route] leads to layer -7, which is not there"),
        ({"cfg": CFG.replace("maxpool", "local")}, "layers of the kind [local] are not read"),
        ({"cfg": CFG.replace("width=8", "width 8")}, "line 3: 'width 8' is neither [section] nor key=value"),
        ({"cfg": CFG.replace("[net]", "[maxpool]")}, "a.cfg is no description of a network"),
        ({"cfg": CFG.replace("width=8", "")}, "width of [net] is missing"),
        ({"cfg": CFG.replace("size=3", "size=99").replace("pad=1", "")}, "nothing is left of the map"),
        ({"cfg": "[net]\nwidth=8\nheight=8\n[maxpool]\n"}, "a.cfg describes no layer with weights"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, fault, words):
    path = written(tmp_path, **fault)
    with pytest.raises(BadInput) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert words in str(error.value)
    assert "a.weights" in str(error.value)


def test_without_its_cfg_a_file_is_refused(tmp_path):
    path = written(tmp_path)
    path.with_suffix(".cfg").unlink()
    with pytest.raises(BadInput, match=r"the numbers of a.weights have no names: put the network's a.cfg beside it"):
        read(path)


def test_own_classes_anchors_and_size_are_taken_from_the_cfg(tmp_path):
    head = "[yolo]\nmask = 1,2\nanchors = 1,2, 3,4, 5,6\nclasses=7\n"
    path = written(tmp_path, cfg=CFG.replace("[connected]\noutput=5", head))
    assert darknet.stated(path) == {"num_classes": 7, "image_size": 8, "anchors": (((3, 4), (5, 6)),)}
    path.with_suffix(".cfg").write_text(CFG.replace("[connected]\noutput=5", head.replace("1,2\n", "1,3\n")))
    with pytest.raises(BadInput, match=r"mask and anchors of \[yolo\] do not fit"):
        darknet.stated(path)
    path.with_suffix(".cfg").write_text(CFG.replace("width=8", "width=16") + head)
    with pytest.raises(BadInput, match="the input is 8x16; only square ones are supported"):
        darknet.stated(path)


def test_anchors_that_are_not_those_of_the_cfg_are_told_in_one_line(tmp_path, monkeypatch):
    path = written(tmp_path, cfg=CFG + "[yolo]\nclasses=5\nmask=0\nanchors=1,2, 3,4\n")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    assert darknet.stated(path)["anchors"] == (((1, 2),),)
    assert darknet.correction(path) == ""
    monkeypatch.setitem(darknet.OF_FILES, digest, (((3, 4),),))
    assert darknet.stated(path)["anchors"] == (((3, 4),),)
    line = darknet.correction(path)
    assert line.startswith("anchors: 3,4, with which this published file was trained, not 1,2, which a.cfg states")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("name", "count"), [("yolo_v3_tiny", 8_858_734), ("yolo_fastest", 346_062), ("yolo_fastest_xl", 923_486)]
)
def test_a_network_has_as_many_numbers_as_its_published_file(name, count):
    model = registry.create_model(name)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jax.numpy.zeros((1, 32, 32, 3), "uint8")))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


@pytest.mark.parametrize(
    ("name", "file"), [("yolo_fastest", "1.1"), pytest.param("yolo_fastest_xl", "1.1-xl", marks=pytest.mark.slow)]
)
def test_real_weights_find_what_the_reference_finds(name, file):
    """Every decoded box and class probability of a photograph, as OpenCV and darknet compute them."""
    folder = weights_or_skip("yolo_fastest_coco")
    golden = np.load(folder / f"golden_yolo-fastest-{file}.npz")
    made = from_file(folder / f"yolo-fastest-{file}.weights", name)
    fixed = registry.create_model(name)
    assert (made.model.anchors, made.model.image_size) == (fixed.anchors, fixed.image_size)
    boxes, scores = jax.jit(lambda variables, image: decoded(made.model, variables, image))(
        made.variables, golden["input_bgr_uint8"][None, ..., ::-1]
    )
    wanted = golden["decoded_cxcywh_then_classprob"]
    order = np.concatenate([np.arange(300).reshape(100, 3).T.ravel(), np.arange(300, 1500).reshape(400, 3).T.ravel()])
    np.testing.assert_allclose(boxes[order], wanted[:, :4], rtol=0, atol=1e-3)
    np.testing.assert_allclose(scores[order], wanted[:, 4:], rtol=0, atol=1e-3)


def decoded(model, variables, image):
    """Boxes cx cy w h and class probabilities of all anchors of one image."""
    raw, anchors, cells = model.apply(variables, image, train=False, method="raw")
    box = yolo_v3.decode(raw["anchor_deltas"][0], anchors, cells)
    boxes = jax.numpy.concatenate([(box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]], -1)
    scores = jax.nn.sigmoid(raw["objectness"][0])[:, None] * jax.nn.sigmoid(raw["class_logits"][0])
    return boxes, scores
