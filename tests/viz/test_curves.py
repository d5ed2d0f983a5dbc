import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxseg.types import Figure
from jaxseg.viz import curves
from jaxseg.viz.curves import _draw_evaluation, _panels, _smooth, figures_text, read, read_figures


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


FIGURES = {
    "warping_error": Figure("warping_error", "warping error", "", higher_is_better=False),
    "miou": Figure("miou", "mean IoU", "%"),
    "rmse": Figure("rmse", "error", "m", higher_is_better=False),
}


def evaluated(**figures):
    """Lines of evaluations at steps 10, 20, 30."""
    rows = zip(*figures.values(), strict=True)
    return [{"kind": "eval", "x": 10 * i, **dict(zip(figures, row, strict=True))} for i, row in enumerate(rows, 1)]


def test_figures_are_described_beside_the_metrics(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text(figures_text(FIGURES.values()))
    assert read_figures(path) == FIGURES
    assert list(read_figures(path)) == list(FIGURES)
    path.write_text("[{")
    assert read_figures(path) == read_figures(tmp_path / "nowhere") == {}


def test_each_unit_has_axes_of_its_own_and_the_best_is_the_lowest_where_lower_is_better(tmp_path):
    from matplotlib.figure import Figure as Canvas

    lines = evaluated(miou=[0.2, 0.8, 0.5], warping_error=[0.03, 0.01, 0.02], rmse=[3.0, 2.0, 2.5], iou=[1.0, 1.0, 1.0])
    panels = _panels(lines, FIGURES)
    assert [[figure.name for figure in panel] for panel in panels] == [["warping_error"], ["miou"], ["rmse"]]
    titles = []
    for panel in panels:
        axes = Canvas().subplots()
        _draw_evaluation(axes, lines, panel)
        titles.append(axes.get_title())
    assert titles == [
        "evaluation: best warping error 0.01 at step 20",
        "evaluation: best mean IoU 80.00 % at step 20",
        "evaluation: best error 2 m at step 20",
    ]


def test_curves_are_drawn_from_files_alone(tmp_path):
    (tmp_path / "figures.json").write_text(figures_text(FIGURES.values()))
    lines = [{**line, "stage": "main", "step": line["x"], "split": "val"} for line in evaluated(rmse=[3.0], miou=[0.5])]
    write(tmp_path / "metrics.jsonl", lines)
    widths = []
    for _ in range(2):
        curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as picture:
            widths.append(picture.width)
        (tmp_path / "figures.json").unlink(missing_ok=True)
    assert widths[0] > widths[1]


def test_matplotlib_is_not_imported_before_a_curve_is_drawn():
    code = "import jaxseg.viz, sys; print('matplotlib' in sys.modules, 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split()[0] == "False"
