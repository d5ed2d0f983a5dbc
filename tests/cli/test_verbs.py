"""The verbs do what they say."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from jaxseg.cli.main import VERBS
from jaxseg.data import Data, Source
from jaxseg.inference.load import load
from jaxseg.inference.predict import predict
from jaxseg.inference.tta import TestTimeAugmented
from jaxseg.models.semantic.bayesian_segnet import bayesian_segnet_basic
from jaxseg.ops.crf import DenseCRF
from jaxseg.registry import entries, list_models
from jaxseg.train.evaluate import evaluate
from jaxseg.train.precise_bn import precise_bn


def test_help_names_every_verb(jaxseg):
    for words in ((), ("--help",)):
        said = jaxseg(*words)
        assert said.status == 0
        assert not said.err
        for verb in VERBS:
            assert f"\n  {verb} " in said.out
    for verb in VERBS:
        said = jaxseg(verb, "-h")
        assert said.status == 0
        assert "Usage: jaxseg" in said.out


def test_version(jaxseg):
    from jaxseg import __version__

    assert jaxseg("--version").out.split() == ["jaxseg", __version__]


def test_list(jaxseg):
    said = jaxseg("list", "--json")
    assert [row["name"] for row in json.loads(said.out)] == list_models()
    said = jaxseg("list", "fcn*", "--task", "semantic")
    assert said.status == 0
    shown = [line.split()[0] for line in said.out.splitlines()[1:]]
    assert shown == list_models("fcn*", "semantic")
    rows = json.loads(jaxseg("list", "unet_efficientnet_b?", "--json").out)
    assert [row["name"] for row in rows] == [f"unet_efficientnet_b{i}" for i in range(8)]


def test_show(jaxseg):
    facts = json.loads(jaxseg("show", "unet_original", "--json", "--size", 572).out)
    assert facts["parameters"] == facts["parameters_in_paper"] == entries()["unet_original"].params
    assert facts["image"] == [572, 572]
    assert facts["output_stride"] == 16
    assert facts["fields"]["num_classes"] == 2
    assert facts["recipes"] == ["unet_isbi"]
    text = jaxseg("show", "unet_original").out
    for word in ("31,030,658", "arXiv:1505.04597", "GFLOPs", "receptive field", "268x268"):
        assert word in text


def test_data(jaxseg, trained):
    rows = json.loads(jaxseg("data", "list", "--json", "--data-dir", trained / "data").out)
    assert {"camvid", "isbi_em", "scenes"} <= {row["name"] for row in rows}
    assert not any(row["prepared"] for row in rows if row["name"] == "camvid")
    assert "camvid" in jaxseg("data", "list").out
    text = jaxseg("data", "show", "camvid").out
    for word in ("pavement", "#3c28de", "train 367", "licence"):
        assert word in text
    assert json.loads(jaxseg("data", "show", "camvid", "--json").out)["splits"]["val"] == 101


def test_data_prepare(jaxseg, tmp_path):
    source = camvid_folder(tmp_path / "source")
    said = jaxseg("data", "prepare", "camvid", "--source", source, "--data-dir", tmp_path / "data")
    assert said.status == 0
    assert "camvid is ready in" in said.out
    rows = json.loads(jaxseg("data", "list", "--json", "--data-dir", tmp_path / "data").out)
    assert [row["prepared"] for row in rows if row["name"] == "camvid"] == [True]


def test_train_leaves_what_it_says(trained):
    run = trained / "run"
    assert json.loads((run / "recipe.json").read_text())["fields"]["name"] == "tiny"
    for left in ("metrics.jsonl", "curves.png", "samples/step_00000002.png", "stages/0-main/checkpoints/2"):
        assert (run / left).exists()


def test_train_again_reports_the_finished_run(jaxseg, trained):
    words = ("--workdir", trained / "run", "--data-dir", trained / "data")
    said = jaxseg("train", trained / "tiny.py", *words)
    assert said.status == 0
    for word in ("wall", "mean IoU, void ignored", "mean IoU, void counted", str(trained / "run" / "samples")):
        assert word in said.out


def test_train_takes_overrides(jaxseg, trained, tmp_path):
    changes = ("--set", "stages.0.steps=1", "--set", "stages.0.model.width=1", "--set", "name=other")
    said = jaxseg(
        "train", trained / "tiny.py", "--workdir", tmp_path / "r", "--data-dir", trained / "data", *changes
    )  # fmt: skip
    assert said.status == 0
    run = load(tmp_path / "r")
    assert (run.step, run.model.width, run.recipe.name) == (1, 1, "other")


@pytest.mark.parametrize("words", [(), ("--batch-size", "2"), ("--split", "train"), ("--last",)])
def test_evaluate_measures_the_checkpoint(jaxseg, trained, words):
    said = jaxseg("evaluate", trained / "run", "--json", "--data-dir", trained / "data", *words)
    assert said.status == 0
    found = json.loads(said.out)
    run = load(trained / "run", best="--last" not in words)
    assert (found["checkpoint"], found["step"], found["averaged"]) == (str(run.checkpoint), 2, True)
    options = run.data.val.options
    split = "train" if "train" in words else "val"
    data = Data(train=Source("scenes", "train"), val=Source("scenes", split, options=options))
    (batch,) = data.eval_batches(batch_size=6 if split == "train" else 3, data_dir=trained / "data")
    labels = predict(run, batch["image"], keys=("label",))["label"]
    assert found["metrics"]["pixel_accuracy"] == pytest.approx(np.mean(labels == batch["label"]))


def test_evaluate_with_statistics_estimated_anew(jaxseg, trained):
    words = ("evaluate", trained / "run", "--data-dir", trained / "data", "--precise-bn")
    found = json.loads(jaxseg(*words, "--json").out)
    run = load(trained / "run")
    batches = [
        run.data.eval_batches(batch_size=3, split=split, data_dir=trained / "data") for split in ("train", "val")
    ]
    variables = precise_bn(run.model, run.variables, run.task, batches[0])
    assert found["precise_bn"] is True
    assert found["metrics"] == pytest.approx(evaluate(run.model, variables, run.task, batches[1]))
    assert found["metrics"] != pytest.approx(evaluate(run.model, run.variables, run.task, batches[1]))
    assert "statistics of BatchNorm estimated anew" in jaxseg(*words).out


def test_evaluate_prints_a_table(jaxseg, trained):
    said = jaxseg("evaluate", trained / "run", "--data-dir", trained / "data")
    for word in ("IoU %", "wall", "void ignored", "void counted as errors", "step 2, moving averages", "best"):
        assert word in said.out


def test_evaluate_draws_truth_beside_prediction(jaxseg, trained, tmp_path):
    words = ("evaluate", trained / "run", "--data-dir", trained / "data", "--draw", tmp_path / "sheets")
    assert jaxseg(*words).status == 0
    (path,) = (tmp_path / "sheets").iterdir()
    assert path.name == "val_label.png"
    with Image.open(path) as sheet:
        assert sheet.width > 4 * 32
        assert sheet.height > 3 * 32


def test_evaluate_a_recipe_with_weights(jaxseg, trained, monkeypatch, tmp_path):
    words = ("--json", "--data-dir", trained / "data")
    expected = jaxseg("evaluate", trained / "run", *words).out
    assert jaxseg("evaluate", trained / "tiny.py", "--weights", trained / "run", *words).out == expected
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tiny").symlink_to(trained / "run")
    monkeypatch.chdir(tmp_path)
    assert json.loads(jaxseg("evaluate", trained / "tiny.py", *words).out)["metrics"] == json.loads(expected)["metrics"]


def test_predict_writes_labels_overlays_and_areas(jaxseg, trained, tmp_path):
    rng = np.random.default_rng(0)
    pictures = {
        "a.png": rng.integers(0, 256, (40, 56, 3), np.uint8),
        "b.bmp": rng.integers(0, 256, (33, 20, 3), np.uint8),
    }
    (tmp_path / "in").mkdir()
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("not an image, and not looked at")
    said = jaxseg("predict", trained / "run", tmp_path / "in", "--out", tmp_path / "out" / "new")
    assert (said.status, said.err) == (0, [])
    assert "2 images predicted" in said.out
    run = load(trained / "run")
    for name, picture in pictures.items():
        stem = tmp_path / "out" / "new" / name.split(".")[0]
        label = predict(run, picture)["label"]
        with Image.open(f"{stem}_label.png") as drawn:
            assert drawn.mode == "P"
            np.testing.assert_array_equal(np.asarray(drawn), label)
            assert tuple(drawn.getpalette()[3:6]) == run.facts.palette[1]
        with Image.open(f"{stem}_overlay.png") as drawn:
            assert (drawn.mode, drawn.size) == ("RGB", picture.shape[1::-1])
        areas = json.loads(stem.with_suffix(".json").read_text())
        assert (areas["height"], areas["width"]) == picture.shape[:2]
        assert [row["pixels"] for row in areas["classes"]] == np.bincount(label.ravel(), minlength=7).tolist()
        assert sum(row["fraction"] for row in areas["classes"]) == pytest.approx(1)
        assert [row["name"] for row in areas["classes"]] == list(run.facts.classes)
        assert areas["model"]["recipe"] == "tiny"
    assert len(list((tmp_path / "out" / "new").iterdir())) == 6


def test_predict_and_evaluate_through_a_crf(jaxseg, trained, tmp_path):
    """Both refine the same probabilities."""
    run, words = load(trained / "run"), ("--json", "--data-dir", trained / "data")
    (batch,) = run.data.eval_batches(batch_size=3, data_dir=trained / "data")
    labels = predict(run, batch["image"], crf=DenseCRF())["label"]
    assert not np.array_equal(labels, predict(run, batch["image"])["label"])
    found = json.loads(jaxseg("evaluate", trained / "run", "--crf", *words).out)
    assert found["crf"] is True
    assert found["metrics"]["pixel_accuracy"] == pytest.approx(np.mean(labels == batch["label"]), abs=2e-3)
    Image.fromarray(batch["image"][0]).save(tmp_path / "a.png")
    assert jaxseg("predict", trained / "run", tmp_path / "a.png", "--out", tmp_path, "--crf").status == 0
    assert np.mean(np.asarray(Image.open(tmp_path / "a_label.png")) == labels[0]) > 0.99


def test_predict_and_evaluate_by_the_mean_of_eight_positions(jaxseg, trained, tmp_path):
    run = load(trained / "run")
    turned = dataclasses.replace(run, model=TestTimeAugmented(run.model))
    (batch,) = run.data.eval_batches(batch_size=3, data_dir=trained / "data")
    labels = predict(turned, batch["image"])["label"]
    assert not np.array_equal(labels, predict(run, batch["image"])["label"])
    said = jaxseg("evaluate", trained / "run", "--tta", "turns", "--json", "--data-dir", trained / "data")
    found = json.loads(said.out)
    assert found["tta"] is True
    assert found["metrics"]["pixel_accuracy"] == pytest.approx(np.mean(labels == batch["label"]))
    Image.fromarray(batch["image"][0]).save(tmp_path / "a.png")
    assert jaxseg("predict", trained / "run", tmp_path / "a.png", "--out", tmp_path, "--tta", "turns").status == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a_label.png")), labels[0])
    assert json.loads((tmp_path / "a.json").read_text())["model"]["network"] == "UNet"


def test_predict_in_tiles(jaxseg, trained, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (130, 40, 3), np.uint8)).save(tmp_path / "a.png")
    for tile, out in ((1024, "whole"), (96, "tiled")):
        pattern = str(tmp_path / "*.png")
        assert jaxseg("predict", trained / "run", pattern, "--out", tmp_path / out, "--tile", tile).status == 0
    whole, tiled = (np.asarray(Image.open(tmp_path / out / "a_label.png")) for out in ("whole", "tiled"))
    np.testing.assert_array_equal(whole, tiled)


def test_predict_draws_where_samples_differ(jaxseg, trained, tmp_path, monkeypatch):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)).save(tmp_path / "a.png")
    words = ("predict", trained / "run", tmp_path / "a.png", "--out", tmp_path / "out", "--samples", 3, "--seed", 5)
    said = jaxseg(*words)
    assert said.status == 2
    assert "has no dropout to sample from" in said.err[-1]

    model = bayesian_segnet_basic(num_classes=7, width=2)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 32, 32, 3), np.uint8))
    bayesian = dataclasses.replace(load(trained / "run"), model=model, variables=variables)
    monkeypatch.setattr("jaxseg.inference.load.load", lambda *_, **__: bayesian)
    assert jaxseg(*words).status == 0
    variance = json.loads((tmp_path / "out" / "a.json").read_text())["variance"]
    assert (variance["samples"], variance["seed"]) == (3, 5)
    assert variance["largest"] > variance["mean"] > 0
    with Image.open(tmp_path / "out" / "a_variance.png") as drawn:
        assert (drawn.mode, drawn.size) == ("RGB", (56, 40))
        assert np.asarray(drawn).min() == 0


def camvid_folder(folder, *, label=3):
    """One street of 4x6 pixels in every split."""
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        (folder / f"{split}annot").mkdir()
        (folder / f"{split}.txt").write_text("one\n")
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(folder / split / "one.png")
        Image.fromarray(np.full((4, 6), label, np.uint8)).save(folder / f"{split}annot" / "one.png")
    return folder
