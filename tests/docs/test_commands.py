"""The shell commands about weights run, page by page, in the order of reading, on a machine that has what they name.

Downloads come from this machine; networks are narrow under their own names.
"""

import dataclasses
import functools
import hashlib
import http.server
import json
import threading

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from jaxseg import registry
from jaxseg.cli.main import main
from jaxseg.conversion.smp import saved
from jaxseg.export import folder
from jaxseg.export.folder import Card
from jaxseg.export.torch import write_state
from jaxseg.models.semantic.unet import unet
from jaxseg.tasks.instance import Instance
from jaxseg.tasks.semantic import Semantic
from jaxseg.weights.names import restore
from jaxseg.weights.published import PUBLISHED
from tests.docs.test_examples import commands_of
from tests.laws.tree import ROOT

PAGES = ("bring-your-weights", "ship-your-model")
NOT_HERE = {"onnx": "jax2onnx lives in an environment of its own, which has to be downloaded"}
"""By a word of the command, why it is not run."""

CONFIG = {"_model_class": "FPN", "encoder_name": "tu-mobilenetv3_small_100", "classes": 3, "in_channels": 3}


def drawn(model):
    """Random numbers for a model's variables; nothing is computed."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 0.3, leaf.shape).astype(np.float32), shapes)


@pytest.fixture
def hub(monkeypatch):
    """A small Hugging Face hub on this machine."""
    pytest.importorskip("huggingface_hub", reason="the hub is reached through its library (extra 'hub')")
    from tests.weights.test_huggingface import Hub

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    made.files, made.seen, made.corrupts = {}, [], False
    made.address = f"http://127.0.0.1:{made.server_address[1]}"
    for name, value in (("HF_ENDPOINT", made.address), ("HF_TOKEN", "hf_writer"), ("HF_HUB_DISABLE_XET", "1")):
        monkeypatch.setenv(name, value)
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def machine(hub, tmp_path, monkeypatch):
    """A folder with the files that the pages name, and the hub with those that they download."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXSEG_OFFLINE", raising=False)
    known = registry.find("fcn_resnet50")
    narrow = dataclasses.replace(known, build=functools.partial(known.build, width=4))
    monkeypatch.setitem(registry._entries, "fcn_resnet50", narrow)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save("photo.png")

    fcn = tmp_path / "fcn_resnet50_coco-1167a1af.pth"
    write_state(fcn, restore(drawn(narrow.build()), narrow.names["torchvision"]))
    tag, data = "torchvision:COCO_WITH_VOC_LABELS_V1", fcn.read_bytes()
    here = {"url": f"{hub.address}/torch/models/resolve/main/fcn.pth", "sha256": hashlib.sha256(data).hexdigest()}
    monkeypatch.setitem(PUBLISHED["fcn_resnet50"], tag, dataclasses.replace(PUBLISHED["fcn_resnet50"][tag], **here))

    network = saved(CONFIG)
    theirs = save(restore(drawn(network.model), network.rules))
    files = {"model.safetensors": theirs, "config.json": json.dumps(CONFIG).encode()}
    (tmp_path / "saved").mkdir()
    for name, content in files.items():
        (tmp_path / "saved" / name).write_bytes(content)
    hub.files |= {"torch/models": {"fcn.pth": data}, "smp-hub/NAME": files}

    model, classes = unet(num_classes=3, depth=1, width=2), ("sky", "wall", "floor")
    card = Card(model, Semantic(3), "unet_scenes", classes, ((0, 0, 0), (1, 1, 1), (2, 2, 2)), "MIT")
    folder.write(tmp_path / "runs" / "unet_scenes", card, drawn(model))
    detector, things = registry.create_small("mask_rcnn_resnet50_fpn"), ("ball", "box", "cone")
    detector = detector.clone(detections=5, samples=16)
    card = Card(detector, Instance(3, things), "mask_rcnn_scenes", (), (), "MIT", things=things)
    start = jax.jit(detector.init)(jax.random.key(0), np.zeros((1, 64, 64, 3), np.uint8))
    folder.write(tmp_path / "runs" / "mask_rcnn_scenes", card, jax.device_get(start))
    return tmp_path


def test_the_commands_run(machine, hub, capsys):
    ran = []
    for page in PAGES:
        for words in commands_of(ROOT / "docs" / f"{page}.md"):
            if set(words) & set(NOT_HERE):
                continue
            place = machine / words[words.index("--out") + 1]
            before = place.stat().st_mtime_ns if place.exists() else 0
            status = main(words)
            assert status == 0, f"jaxseg {' '.join(words)}: {capsys.readouterr().err}"
            assert place.stat().st_mtime_ns > before, f"jaxseg {' '.join(words)} wrote nothing"
            ran.append(words[0])
    assert {"import", "predict", "export"} == set(ran)
    assert "card.json" in hub.files["ORG/REPO"]
    with Image.open("results/photo_label.png") as label:
        assert label.size == (56, 40)
