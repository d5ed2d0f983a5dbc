"""A kind of prediction that jaxseg has never heard of: task, metric, painter and model in a folder of one's own.

The folder's files are all that is written. Through the command line the kind trains, resumes, is evaluated, predicts,
is drawn and exported; each command starts without the folder's modules, as a new process would.
"""

import json
import shutil
import sys
import textwrap

import jax
import numpy as np
import pytest
from PIL import Image

import jaxseg
from jaxseg.cli.main import main
from jaxseg.export import stablehlo
from jaxseg.train import checkpoint
from jaxseg.train.log import read_rows

FILES = {
    "tasks/red.py": '''
        """Regress the red channel of every pixel."""

        from dataclasses import dataclass

        import jax.numpy as jnp
        from metrics.red import RedError

        from jaxseg.tasks.protocol import Term


        def truth(batch):
            return batch["image"][..., 0].astype(jnp.float32) / 255


        @dataclass(frozen=True)
        class Red:
            def inputs(self, batch, *, train):
                return {"image": batch["image"]}

            def loss(self, outputs, batch):
                error = jnp.square(outputs["red"] - truth(batch)).mean((1, 2))
                real = batch.get("real", jnp.ones(error.shape, bool))
                return {"square": Term(jnp.where(real, error, 0.0).sum(), real.sum().astype(jnp.float32))}

            def predict(self, outputs, batch):
                return {"red": outputs["red"]}

            def metrics(self):
                return {"red": RedError()}
        ''',
    "metrics/red.py": '''
        """Mean absolute error of the red channel, in grey levels."""

        from dataclasses import dataclass

        import jax.numpy as jnp
        import numpy as np

        from jaxseg.types import Figure


        @dataclass(frozen=True)
        class RedError:
            def init(self):
                return np.zeros(2)

            def observe(self, predictions, batch):
                error = jnp.abs(255 * predictions["red"] - batch["image"][..., 0].astype(jnp.float32)).mean((1, 2))
                real = batch.get("real", jnp.ones(error.shape, bool))
                return jnp.stack([jnp.where(real, error, 0.0).sum(), real.sum().astype(jnp.float32)])

            def fold(self, state, observation):
                return state + np.asarray(observation, np.float64)

            def result(self, state):
                return {"red_error": float(state[0] / state[1])} if state[1] else {}

            def figures(self):
                return (Figure("red_error", "error of red", "levels", higher_is_better=False),)
        ''',
    "painters/red.py": '''
        """The red channel, in red."""

        import numpy as np

        from jaxseg.viz import Painter, painter


        @painter("red")
        class RedPainter(Painter):
            def paint(self, image, predictions, facts):
                level = np.clip(np.rint(255 * predictions["red"]), 0, 255).astype(np.uint8)
                return np.stack([level, level * 0, level * 0], -1)

            def describe(self, predictions, facts):
                return {"red": {"mean": float(predictions["red"].mean())}}

            def summarize(self, predictions, facts):
                return f"red {float(predictions['red'].mean()):.2f}"
        ''',
    "models/red.py": '''
        """One convolution."""

        import flax.linen as nn
        import jax.numpy as jnp

        from jaxseg.layers.conv import Conv
        from jaxseg.registry import register


        class RedNet(nn.Module):
            scale: float = 1.0
            in_channels: int = 3

            @nn.compact
            def __call__(self, image, *, train=False):
                x = image.astype(jnp.float32) / 255
                return {"red": self.scale * Conv(1, 1, name="mix")(x)[..., 0]}


        @register(task="red", paper="none")
        def red_net(scale: float = 1.0) -> RedNet:
            """One convolution."""
            return RedNet(scale=scale)
        ''',
    "red_scenes.py": '''
        """The red channel of rendered rooms."""

        import models.red
        import painters.red
        from tasks.red import Red

        import jaxseg
        from jaxseg.data import Data, Source
        from jaxseg.recipe import Recipe, Stage
        from jaxseg.train.optim import SGD


        def recipe():
            options = (("size", 32), ("train", 6), ("val", 3))
            data = Data(
                train=Source("scenes", "train", options=options),
                val=Source("scenes", "val", options=options),
                keys=("image",),
            )
            stage = Stage(
                model=jaxseg.create_model("red_net"),
                task=Red(),
                data=data,
                optimizer=SGD(0.3),
                steps=6,
                batch_size=3,
                log_every=2,
                eval_every=2,
                save_every=2,
                keep_best="red_error",
                pictures=2,
            )
            return Recipe(stages=(stage,), name="red_scenes")
        ''',
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's folder, and a command line that meets it for the first time at every command."""
    import jaxseg.registry

    painter = sys.modules["jaxseg.viz.painter"]
    jaxseg.registry.entries()
    painter.registered_painters()
    monkeypatch.setattr(jaxseg.registry, "_entries", dict(jaxseg.registry._entries))
    monkeypatch.setattr(painter, "_painters", dict(painter._painters))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("JAXSEG_CACHE", "off")
    before = set(sys.modules)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text).lstrip())
    yield tmp_path
    forget(tmp_path)
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] in ("tasks", "metrics", "painters")}


def forget(folder):
    """Drop everything that the folder's files have left in this process."""
    import jaxseg.registry

    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
        if str(origin).startswith(str(folder)):
            del sys.modules[name]
    sys.path[:] = [place for place in sys.path if not str(place).startswith(str(folder))]
    jaxseg.registry._entries.pop("red_net", None)
    sys.modules["jaxseg.viz.painter"]._painters.pop("red", None)


def run(folder, *words):
    """Run a command as a new process would, and return what it printed."""
    forget(folder)
    assert main([str(word) for word in words]) == 0


def test_a_new_kind_of_prediction_needs_no_file_of_the_package_opened(folder, capsys):
    recipe, work, data = folder / "red_scenes.py", folder / "run", ("--data-dir", folder / "data")
    run(folder, "train", recipe, "--workdir", work, *data)
    told = capsys.readouterr()
    assert "no painter" not in told.err
    assert "error of red, lower is better" in told.out
    rows = read_rows(work / "metrics.jsonl")
    errors = {row["step"]: row["red_error"] for row in rows if row["kind"] == "eval"}
    assert list(errors) == [2, 4, 6]
    assert errors[6] < errors[2]
    (best,) = (work / "stages/0-main/best").iterdir()
    assert errors[int(best.name)] == min(errors.values())
    (figure,) = json.loads((work / "figures.json").read_text())
    assert (figure["name"], figure["unit"], figure["higher_is_better"]) == ("red_error", "levels", False)
    with Image.open(work / "samples/step_00000006.png") as sheet:
        assert (np.asarray(sheet)[..., 1:] == 0).all(-1).any()  # something is painted in pure red or black
    with Image.open(work / "curves.png") as drawn:
        assert drawn.width > 800

    ended = checkpoint.read(work / "stages/0-main/checkpoints")
    for place in (work / "stages/0-main").glob("*/6"):
        shutil.rmtree(place)
    run(folder, "train", recipe, "--workdir", work, *data)
    assert "resumed at step 4" in capsys.readouterr().err
    again = checkpoint.read(work / "stages/0-main/checkpoints")
    jax.tree.map(np.testing.assert_array_equal, again.state, ended.state)

    run(folder, "evaluate", recipe, "--weights", work, "--json", *data)
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["red_error"] == pytest.approx(min(errors.values()))

    photo = np.random.default_rng(0).integers(0, 256, (21, 34, 3), np.uint8)
    Image.fromarray(photo).save(folder / "photo.png")
    own = ("--recipe", recipe)
    run(folder, "predict", work, folder / "photo.png", "--out", folder / "out", *own)
    assert ": red 0." in capsys.readouterr().out
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["photo.json", "photo_red.png"]
    parameters = checkpoint.read(work / "stages/0-main/best").variables["params"]["mix"]
    expected = (photo / 255) @ np.asarray(parameters["kernel"])[0, 0, :, 0] + np.asarray(parameters["bias"])[0]
    with Image.open(folder / "out" / "photo_red.png") as drawn:
        np.testing.assert_allclose(np.asarray(drawn)[..., 0], np.clip(255 * expected, 0, 255), atol=0.6)
    told = json.loads((folder / "out" / "photo.json").read_text())
    assert told["red"]["mean"] == pytest.approx(expected.mean(), abs=1e-5)

    run(folder, "export", work, "--format", "stablehlo", "--out", folder / "red.stablehlo", *own)
    program, _ = stablehlo.read(folder / "red.stablehlo")
    np.testing.assert_allclose(program(photo[None])["red"][0], expected, atol=1e-5)
    run(folder, "export", work, "--format", "safetensors", "--out", folder / "handed-on", *own)
    run(folder, "predict", folder / "handed-on", folder / "photo.png", "--out", folder / "again", *own)
    assert (folder / "again/photo_red.png").read_bytes() == (folder / "out/photo_red.png").read_bytes()
    loaded = jaxseg.load(folder / "handed-on")
    np.testing.assert_allclose(jaxseg.predict(loaded, photo)["red"], expected, atol=1e-5)
