import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxseg.viz import curves
from jaxseg.viz.curves import _smooth, read


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" if isinstance(line, dict) else line for line in lines))


def train(step, loss, stage="main"):
    return {"stage": stage, "step": step, "kind": "train", "loss": loss, "learning_rate": 0.1}


def test_later_lines_of_a_resumed_run_count_and_half_lines_do_not(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [train(10, 3.0), train(20, 2.0), '{"stage": "ma\n', train(20, 5.0), train(30, 1.0), '{"step'])
    assert [(line["x"], line["loss"]) for line in read(path)] == [(10, 3.0), (20, 5.0), (30, 1.0)]


def test_stages_follow_one_another(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [train(10, 3.0, "encoder"), train(50, 2.0, "encoder"), train(10, 1.0, "decoder")]
    write(path, [*lines, {"stage": "decoder", "step": 10, "kind": "eval", "split": "val", "miou": 0.5}])
    assert [line["x"] for line in read(path)] == [10, 50, 60, 60]


def test_smooth_keeps_constants_and_averages_noise():
    np.testing.assert_allclose(_smooth(np.full(200, 3.0)), 3.0)
    noise = np.random.default_rng(0).normal(size=400)
    assert _smooth(noise).std() < 0.4
    np.testing.assert_allclose(_smooth(noise)[200], noise[190:211].mean())
    np.testing.assert_array_equal(_smooth(np.asarray([1.0, 2.0])), [1.0, 2.0])


@pytest.mark.parametrize("kinds", ["both", "train", "eval", "none", "other", "nan"])
def test_draws_whatever_there_is(tmp_path, kinds):
    path, out = tmp_path / "metrics.jsonl", tmp_path / "curves.png"
    lines = []
    if kinds in ("both", "train"):
        lines += [train(step, 1000.0 / step) for step in range(1, 100)]
    if kinds in ("both", "eval"):
        lines += [{"stage": "main", "step": s, "kind": "eval", "split": "val", "miou": s / 99} for s in (33, 66, 99)]
        lines += [{"stage": "main", "step": 99, "kind": "eval", "split": "test", "miou": 0.4, "iou/car": 0.1}]
    if kinds == "other":
        lines += [{"stage": "main", "step": 5, "kind": "eval", "split": "val", "rmse": 3.5, "flag": True}]
    if kinds == "nan":
        lines += ['{"stage": "main", "step": 5, "kind": "train", "loss": NaN}\n', train(6, 1.0)]
    if kinds != "none":
        write(path, lines)
    curves(path, out, title="a run")
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    assert [p.name for p in sorted(tmp_path.iterdir())] == (
        ["curves.png", "metrics.jsonl"] if lines else ["curves.png"]
    )


def test_matplotlib_is_not_imported_before_a_curve_is_drawn():
    code = "import jaxseg.viz, sys; print('matplotlib' in sys.modules, 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split()[0] == "False"
