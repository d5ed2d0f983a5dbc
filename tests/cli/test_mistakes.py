"""Every mistake is one line on stderr that says what is wrong and what would work; nothing is lost."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxseg.errors import FailedRun
from jaxseg.recipe import load_file
from jaxseg.train.workdir import claim
from tests.cli.test_verbs import camvid_folder


def fault(said, *words, status=2, after_work=False):
    """Check that a command said one line with these words; ``after_work`` there may be lines of progress before it."""
    ours = [line for line in said.err if line.startswith("jaxseg: ")]
    assert said.status == status, said
    assert ours == said.err[-1:], said.err
    if status == 2 and not after_work:
        assert len(said.err) == 1, said.err
    for word in words:
        assert word in ours[0], ours[0]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], ["'trian'", "'train'"]),
        (["--hlep"], ["--hlep"]),
        (["show"], ["NAME"]),
        (["show", "unte"], ["'unte'", "'unet'"]),
        (["show", "unet", "--size", "big"], ["--size", "'big'"]),
        (["list", "zzz*"], ["'zzz*'"]),
        (["list", "--task", "semantics"], ["'semantics'", "'semantic'"]),
        (["data"], ["--help"]),
        (["data", "lits"], ["lits", "list"]),
        (["data", "show", "camvd"], ["'camvd'", "'camvid'"]),
        (["data", "prepare", "camvid"], ["--source DIR"]),
        (["data", "prepare", "camvid", "--source", "nowhere"], ["'nowhere'"]),
        (["train", "nowhere.py"], ["nowhere.py", "unet_scenes"]),
        (["train", "unet_scene"], ["'unet_scene'", "'unet_scenes'"]),
        (["train", "unet_scenes", "--placement", "shraded"], ["--placement", "sharded"]),
        (["train", "unet_scenes", "--set", "stages.0.steps"], ["path=value"]),
        (["train", "unet_scenes", "--set", "stages.0.steps=many"], ["stages.0.steps", "'many'", "int"]),
        (["train", "unet_scenes", "--set", "stages.0.model.depht=3"], ["'depht'", "'depth'"]),
        (["train", "unet_scenes", "--set", "stages.0.batch_size=0"], ["batch_size", "at least 1"]),
        (["evaluate", "nowhere"], ["'nowhere'"]),
        (["evaluate"], ["WORKDIR|RECIPE.py"]),
        (["predict", "nowhere", "a.png"], ["--out"]),
        (["predict", "nowhere", "--out", "x"], ["IMAGE"]),
        (["predict", "nowhere", "a.png", "--out", "x"], ["'a.png'"]),
        (["predict", "nowhere", "a.png", "--out", "x", "--tta", "flip", "--samples", "3"], ["--tta", "--samples"]),
    ],
    ids=" ".join,
)
def test_mistakes_on_the_command_line(jaxseg, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    fault(jaxseg(*argv), *words)
    assert not list(tmp_path.iterdir())


def test_a_recipe_with_a_typo(jaxseg, trained, tmp_path):
    text = (trained / "tiny.py").read_text()
    (tmp_path / "typo.py").write_text(text.replace("Semantic(7", "Semantik(7"))
    fault(jaxseg("train", tmp_path / "typo.py"), "typo.py:16", "'Semantik'", "'Semantic'")
    (tmp_path / "typo.py").write_text(text.replace("import unet", "import unett"))
    fault(jaxseg("train", tmp_path / "typo.py"), "typo.py:5", "unett")


def test_images_that_are_none(jaxseg, trained, tmp_path):
    good, bad, cut = tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(good)
    bad.write_text("this is text")
    cut.write_bytes(good.read_bytes()[:2000])
    out = tmp_path / "out"
    for words, expected in [
        ([good, bad], ["bad.png", "not an image"]),
        ([good, cut], ["cut.png", "not an image"]),
        ([good, tmp_path / "absent.png"], ["absent.png"]),
        ([good, tmp_path / "*.jpg"], ["*.jpg", "no file matches"]),
    ]:
        fault(jaxseg("predict", trained / "run", *words, "--out", out), *expected)
        assert not out.exists()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("")
    fault(jaxseg("predict", trained / "run", tmp_path / "empty", "--out", out), "holds no image", ".png")
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "good.jpg")
    fault(jaxseg("predict", trained / "run", good, tmp_path / "in", "--out", out), "good_label.png", "two folders")
    fault(jaxseg("predict", trained / "run", good, "--out", good), "cannot be a folder")
    fault(jaxseg("predict", tmp_path / "in", good, "--out", out), "holds no checkpoint")


def test_a_label_out_of_range(jaxseg, tmp_path):
    source = camvid_folder(tmp_path / "source", label=99)
    said = jaxseg("data", "prepare", "camvid", "--source", source, "--data-dir", tmp_path / "data")
    fault(said, "one.png", "99", after_work=True)
    assert not list((tmp_path / "data").rglob("dataset_info.json"))


def test_a_split_that_is_missing(jaxseg, trained):
    said = jaxseg("evaluate", trained / "run", "--split", "test", "--data-dir", trained / "data")
    fault(said, "'test'", "train, val")


def test_data_that_are_not_prepared(jaxseg, tmp_path):
    said = jaxseg("train", "segnet_basic_camvid", "--workdir", tmp_path / "run", "--data-dir", tmp_path / "data")
    fault(said, "jaxseg data prepare camvid --source DIR")


def test_sizes_that_do_not_fit_valid_convolutions(jaxseg, trained, tmp_path):
    text = (trained / "tiny.py").read_text().replace("unet(num_classes=7, depth=1,", "unet_original(num_classes=7,")
    (tmp_path / "valid.py").write_text(text.replace("import unet", "import unet_original"))
    said = jaxseg("train", tmp_path / "valid.py", "--workdir", tmp_path / "run", "--data-dir", trained / "data")
    fault(said, "height 32 does not fit", "nearest: 188")
    claim(tmp_path / "run", load_file(trained / "tiny.py"))  # what never got to a checkpoint is in nobody's way


def test_a_checkpoint_of_another_model(jaxseg, trained, tmp_path):
    text = (trained / "tiny.py").read_text()
    (tmp_path / "other.py").write_text(text.replace("width=2", "width=3"))
    said = jaxseg("evaluate", tmp_path / "other.py", "--weights", trained / "run", "--data-dir", trained / "data")
    fault(said, "of another model", "params/bottom_conv1/kernel", "[3, 3, 2, 4]", "[3, 3, 3, 6]")
    said = jaxseg("train", tmp_path / "other.py", "--workdir", trained / "run", "--data-dir", trained / "data")
    fault(said, "stages.0.model.width is 2 there and 3 here", "another work directory")


def test_a_disk_that_is_full(jaxseg, trained, copied, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted(path.name for path in (copied / "run" / "stages" / "0-main" / "checkpoints").iterdir())
    monkeypatch.setattr("jaxseg.train.checkpoint.ocp.CheckpointManager.save", full)
    words = ("--data-dir", trained / "data", "--set", "stages.0.steps=1")
    said = jaxseg("train", copied / "tiny.py", "--workdir", tmp_path / "new", *words)
    fault(said, "no space left", status=1)
    assert sorted(path.name for path in (copied / "run" / "stages" / "0-main" / "checkpoints").iterdir()) == before

    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    monkeypatch.setattr(Path, "write_bytes", full)
    said = jaxseg("predict", copied / "run", tmp_path / "a.png", "--out", tmp_path / "out")
    fault(said, "disk is full", status=1)
    assert not list((tmp_path / "out").iterdir())


def test_a_run_that_fails_is_one_line_with_status_one(jaxseg, trained, tmp_path, monkeypatch):
    for error, words in [
        (FailedRun("the loss is not finite at step 3"), ["jaxseg: the loss is not finite at step 3"]),
        (ZeroDivisionError("by\nzero"), ["ZeroDivisionError", "by zero", "JAXSEG_TRACEBACK=1"]),
    ]:

        def fail(*args, error=error, **kwargs):
            raise error

        monkeypatch.setattr("jaxseg.train.loop.fit", fail)
        fault(jaxseg("train", trained / "tiny.py", "--workdir", tmp_path / "run"), *words, status=1)
    monkeypatch.setenv("JAXSEG_TRACEBACK", "1")
    from jaxseg.cli.main import main

    with pytest.raises(ZeroDivisionError):
        main(["train", str(trained / "tiny.py"), "--workdir", str(tmp_path / "run")])


def test_a_home_that_cannot_be_written(jaxseg, trained, tmp_path, monkeypatch):
    """Prepared data need another folder, which is said; predicting needs none, and says nothing."""
    monkeypatch.setenv("JAXSEG_CACHE", "/dev/null/cache")
    monkeypatch.delenv("JAXSEG_DATA_DIR")
    fault(jaxseg("data", "prepare", "scenes"), "/dev/null/cache", "--data-dir", "JAXSEG_CACHE")
    fault(jaxseg("train", trained / "tiny.py", "--workdir", tmp_path / "run"), "--data-dir", "JAXSEG_CACHE")
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
        said = jaxseg("predict", trained / "run", tmp_path / "a.png", "--out", tmp_path / "out")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert (said.status, said.err) == (0, [])


def test_an_interruption(jaxseg, trained, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxseg.train.loop.fit", interrupt)
    said = jaxseg("train", trained / "tiny.py", "--workdir", tmp_path / "run")
    fault(said, "interrupted", "same command", status=130)


def test_as_a_process():
    """The installed command itself: no traceback reaches the user, and the mistakes cost no import of JAX."""
    for words, status in ((["trian"], 2), (["show", "unte"], 2), (["--version"], 0)):
        done = subprocess.run(
            [sys.executable, "-m", "jaxseg.cli.main", *words], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == status
        assert len(done.stderr.splitlines()) == (status != 0)
        assert "Traceback" not in done.stderr


def test_the_package_alone_brings_in_nothing_heavy():
    """Data workers import it, and ``jaxseg --help`` does."""
    code = (
        "import sys, jaxseg, jaxseg.cli.main; "
        "print({'jax', 'flax', 'optax', 'orbax', 'grain', 'tensorflow_datasets', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["set()"]
