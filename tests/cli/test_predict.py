"""``jaxseg predict`` on folders of many sizes, on its own results, in subfolders, with other ranges."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from jaxseg.data.transforms import PadTo, Resize, ResizeWithin
from jaxseg.export import folder
from jaxseg.export.folder import Card
from jaxseg.inference import predictor
from jaxseg.inference.load import load, save
from jaxseg.inference.predict import predict
from jaxseg.models.detection import retinanet
from jaxseg.registry import create_small
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.saliency import Saliency
from tests.export.test_export import random_numbers


def pictures(folder, sizes):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i, size in enumerate(sizes):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def label(path):
    return np.asarray(Image.open(path))


def compiled_sizes(run):
    """How many sizes were compiled since the cache was cleared."""
    return predictor.compiled(run.model, run.task, predictor.small_keys(run))._cache_size()


def test_many_sizes_share_few_shapes(jaxseg, trained, tmp_path):
    sizes = [(24 + i, 40 - i) for i in range(8)]
    folder, run = pictures(tmp_path / "in", sizes), load(trained / "run")
    predictor.compiled.cache_clear()
    said = jaxseg("predict", trained / "run", folder, "--out", tmp_path / "exact")
    assert said.status == 0
    assert compiled_sizes(run) == 8
    assert "8 sizes of image" in said.err[0]
    assert "--shapes 6" in said.err[0]
    predictor.compiled.cache_clear()
    said = jaxseg("predict", trained / "run", folder, "--out", tmp_path / "few", "--shapes", 2)
    assert (said.status, said.err) == (0, [])
    assert compiled_sizes(run) == 2
    assert "8 sizes of image padded to 2: 27x40, 31x36" in said.out
    same = [
        np.mean(label(tmp_path / "few" / f"{i}_label.png") == label(tmp_path / "exact" / f"{i}_label.png"))
        for i in range(8)
    ]
    assert min(same) > 0.99


def test_its_own_results_are_no_images(jaxseg, trained, tmp_path):
    folder = pictures(tmp_path / "in", [(20, 24)])
    words = ("predict", trained / "run", folder, "--out", folder)
    assert jaxseg(*words).status == 0
    before = sorted(path.name for path in folder.iterdir())
    said = jaxseg(*words)
    assert "1 image predicted" in said.out
    assert "2 pictures of an earlier run left out" in said.err[0]
    assert (
        sorted(path.name for path in folder.iterdir()) == before == ["0.json", "0.png", "0_label.png", "0_overlay.png"]
    )
    assert json.loads((folder / "0.json").read_text())["pictures"] == ["0_label.png", "0_overlay.png"]


def test_subfolders_are_kept(jaxseg, trained, tmp_path):
    for name in ("a", "b"):
        pictures(tmp_path / "in" / name, [(20, 24)])
    said = jaxseg("predict", trained / "run", tmp_path / "in" / "*" / "*.png", "--out", tmp_path / "out")
    assert said.status == 0
    assert all((tmp_path / "out" / name / "0_label.png").exists() for name in ("a", "b"))


def test_a_range_of_values(jaxseg, trained, tmp_path):
    """Twelve bits in a wide container would be nearly black: refused, and read as they are meant with --range."""
    values = np.random.default_rng(0).integers(0, 4096, (20, 24), np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    words = ("predict", trained / "run", tmp_path / "deep.png", "--out", tmp_path / "out")
    said = jaxseg(*words)
    assert said.status == 2
    assert "--range 0 4095" in said.err[-1]
    assert jaxseg(*words, "--range", 0, 4095).status == 0
    expected = predict(load(trained / "run"), np.repeat((values // 16).astype(np.uint8)[..., None], 3, -1))["label"]
    np.testing.assert_array_equal(label(tmp_path / "out" / "deep_label.png"), expected)


def test_the_folder_that_is_handed_on_predicts_at_the_size_of_validation(jaxseg, trained, tmp_path):
    """Resized, predicted, brought back: all from the card, without the recipe."""
    run = load(trained / "run")
    object.__setattr__(run, "geometry", (Resize(16, 16),))
    save(run, tmp_path / "model")
    folder = pictures(tmp_path / "in", [(48, 64)])
    assert jaxseg("predict", tmp_path / "model", folder, "--out", tmp_path / "out").status == 0
    found = label(tmp_path / "out" / "0_label.png")
    small = np.asarray(Image.open(folder / "0.png").resize((16, 16), Image.Resampling.BILINEAR))
    expected = predict(load(trained / "run"), small)["label"]
    np.testing.assert_array_equal(found, np.repeat(np.repeat(expected, 3, 0), 4, 1))
    words = ("export", tmp_path / "model", "--format", "stablehlo", "--size", 16, 16, "--out", tmp_path / "m.stablehlo")
    assert "takes images after Resize(height=16, width=16)" in jaxseg(*words).out


@pytest.mark.parametrize("views", ["flip", "flip,0.5,1.5", "turns"])
def test_evaluate_and_predict_take_the_same_views(jaxseg, trained, tmp_path, views):
    run = load(trained / "run")
    (batch,) = run.data.eval_batches(batch_size=3, data_dir=trained / "data")
    for i, image in enumerate(batch["image"]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    said = jaxseg("evaluate", trained / "run", "--tta", views, "--json", "--data-dir", trained / "data")
    found = json.loads(said.out)
    assert found["views"] == views
    pattern = tmp_path / "?.png"
    assert jaxseg("predict", trained / "run", pattern, "--out", tmp_path, "--tta", views).status == 0
    same = [label(tmp_path / f"{i}_label.png") == batch["label"][i] for i in range(3)]
    assert found["metrics"]["pixel_accuracy"] == pytest.approx(np.mean(same), abs=1e-3)


def test_views_that_are_none(jaxseg, trained, tmp_path):
    folder = pictures(tmp_path / "in", [(20, 24)])
    said = jaxseg("predict", trained / "run", folder, "--out", tmp_path / "out", "--tta", "flop")
    assert said.status == 2
    assert "'flop'" in said.err[-1]
    assert not (tmp_path / "out").exists()


def test_a_detector_draws_the_sure_objects_and_writes_down_all(jaxseg, tmp_path):
    model = retinanet.on_resnet(18, 3, width=4, features=8).clone(detections=10, candidates=50)
    geometry = (ResizeWithin(64, 64), PadTo(64, 64))
    card = Card(model, Detection(3), "small", (), (), things=("cat", "dog", "cow"), geometry=geometry)
    smaller = jax.tree.map(lambda leaf: np.float32(0.6) * leaf, random_numbers(model))  # scores below 1
    folder.write(tmp_path / "model", card, smaller)
    pictures(tmp_path / "in", [(86, 90)])
    said = jaxseg("predict", tmp_path / "model", tmp_path / "in", "--out", tmp_path / "out", "--threshold", "0")
    assert said.status == 0, said.err
    report = json.loads((tmp_path / "out" / "0.json").read_text())
    found = report["objects"]
    assert 2 < len(found) <= 10
    assert {row["name"] for row in found} <= {"cat", "dog", "cow"}
    for row in found:
        x0, y0, x1, y1 = row["box"]
        assert 0 <= x0 < x1 <= 90
        assert 0 <= y0 < y1 <= 86
    assert report["pictures"] == ["0_boxes.png"]
    all_drawn = (tmp_path / "out" / "0_boxes.png").read_bytes()
    least = np.median([row["score"] for row in found])
    words = ("--out", tmp_path / "sure", "--threshold", str(least))
    said = jaxseg("predict", tmp_path / "model", tmp_path / "in", *words)
    report = json.loads((tmp_path / "sure" / "0.json").read_text())
    assert report["objects"] == found
    sure = sum(row["score"] >= least for row in found)
    assert 0 < sure < len(found)
    counted = said.out.splitlines()[0].split(": ")[1]
    assert sum(int(words.split()[0]) for words in counted.split(", ")) == sure
    assert (tmp_path / "sure" / "0_boxes.png").read_bytes() != all_drawn
    said = jaxseg("predict", tmp_path / "model", tmp_path / "in", "--out", tmp_path / "b", "--tta", "flip")
    assert said.status == 2
    assert "RetinaNet predicts objects" in said.err[0]


def test_a_cutout_is_the_image_with_its_saliency_as_opacity(jaxseg, tmp_path):
    model = create_small("u2netp")
    card = Card(model, Saliency(stretch=True), "tiny", (), ())
    run = tmp_path / "tiny.safetensors"
    folder.write(run, card, random_numbers(model))
    source = pictures(tmp_path / "in", [(40, 56)])
    said = jaxseg("predict", run, source, "--out", tmp_path / "out", "--cutout")
    assert (said.status, said.err) == (0, [])
    whole = np.asarray(Image.open(source / "0.png"))
    cut, shade = (np.asarray(Image.open(tmp_path / "out" / f"0_{kind}.png")) for kind in ("cutout", "saliency"))
    assert cut.shape == (40, 56, 4)
    np.testing.assert_array_equal(cut[..., :3], whole)
    np.testing.assert_array_equal(cut[..., 3], shade if shade.ndim == 2 else shade[..., 0])
    assert len(np.unique(cut[..., 3])) > 10


def test_a_cutout_of_what_is_not_salient_is_refused(jaxseg, trained, tmp_path):
    source = pictures(tmp_path / "in", [(20, 24)])
    said = jaxseg("predict", trained / "run", source, "--out", tmp_path / "out", "--cutout")
    assert said.status == 2
    assert "--cutout needs a network that predicts saliency" in said.err[0]
