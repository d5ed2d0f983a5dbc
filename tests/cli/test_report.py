"""The page that ``jaxseg train`` and ``jaxseg evaluate`` leave: what it shows, and that a browser shows it."""

import base64
import io
import json
import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxseg.data import Facts
from jaxseg.inference.load import load
from jaxseg.metrics import Confusion
from jaxseg.report import watch, write_report
from jaxseg.report.pictures import choose
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.evaluate import evaluate
from jaxseg.types import Figure
from tests.metrics import panoptic_cases
from tests.metrics.joined_evaluation import COUNT, Known, Nothing, batches
from tests.metrics.joined_evaluation import NAMES as OBJECTS

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)

COUNTS = """<script>addEventListener("load", () => {
  const all = [...document.images], there = all.filter(x => x.complete && x.naturalWidth > 0);
  document.title = `${there.length} of ${all.length}`;
})</script></body>"""


def sources(page):
    return re.findall(r'<img src="data:image/([\w+]+);base64,([^"]+)"', page)


def own_scores(folder, labels):
    """The mean IoU of each validation image on its own, by the label maps that were saved."""
    metric, scores = Confusion(7), []
    rows = load(folder / "run").data.eval_batches(batch_size=1, data_dir=folder / "data")
    for number, batch in enumerate(rows):
        with Image.open(labels / f"{number:012d}.png") as picture:
            found = jnp.asarray(np.asarray(picture)[None], jnp.int32)
        state = metric.observe({"label": found}, {"label": jnp.asarray(batch["label"])})
        scores.append(metric.result(np.asarray(state))["miou"])
    return scores


def test_training_leaves_a_page_about_its_best_checkpoint(trained):
    page = (trained / "run" / "report.html").read_text()
    for title in ("Figures", "IoU of each class", "Confusion matrix", "Calibration", "Training", "The worst images"):
        assert f"<h2>{title}</h2>" in page
    assert "expected calibration error (lower is better)" in page
    assert "intersection / union of their pixels" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page), "nothing comes from elsewhere"
    kinds = [kind for kind, _ in sources(page)]
    assert kinds == ["svg+xml", "svg+xml", "svg+xml", "png", "jpeg", "jpeg", "jpeg"]
    for kind, data in sources(page):
        if kind != "svg+xml":
            picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
            assert picture.std() > 5


def test_images_are_ranked_by_what_each_is_worth_alone(jaxseg, trained, tmp_path):
    words = ("evaluate", trained / "run", "--data-dir", trained / "data", "--report", tmp_path / "page.html")
    assert jaxseg(*words, "--save-predictions", tmp_path / "saved").status == 0
    page = (tmp_path / "page.html").read_text()
    scores = own_scores(trained, tmp_path / "saved" / "label")
    shown = re.findall(r"<figcaption>image (\d+): mean IoU, void ignored ([\d.]+) %", page)
    assert {int(number) for number, _ in shown} == {0, 1, 2}
    assert np.diff([scores[int(number)] for number, _ in shown]).min() >= 0, "the worst first; equal ones in any order"
    for number, value in shown:
        assert float(value) == pytest.approx(100 * scores[int(number)], abs=0.006)


def test_evaluate_leaves_one_for_each_split_and_the_same_figures(jaxseg, copied, tmp_path):
    words = ("evaluate", copied / "run", "--data-dir", copied / "data", "--split", "train")
    said = jaxseg(*words)
    assert said.status == 0
    assert f"report: {copied / 'run' / 'report-train.html'}" in said.out
    page = (copied / "run" / "report-train.html").read_text()
    assert len(sources(page)) == 4 + 6
    assert "scenes, train" in page
    named = tmp_path / "pages" / "mine.html"
    found = json.loads(jaxseg(*words, "--json", "--report", named).out)["metrics"]
    assert f"{100 * found['miou']:.2f}" in named.read_text()


def test_a_page_that_cannot_be_written_does_not_lose_the_figures(jaxseg, copied, tmp_path):
    (copied / "run" / "report.html").unlink()
    (copied / "run" / "report.html").mkdir()
    words = ("evaluate", copied / "run", "--data-dir", copied / "data")
    said = jaxseg(*words)
    assert (said.status, "void ignored" in said.out) == (0, True)
    assert "no report" in said.err[-1]
    said = jaxseg(*words, "--report", tmp_path)
    assert (said.status, "--report" in said.err[-1]) == (2, True)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to look at the page with: apt-get install chromium")
def test_a_browser_without_a_network_shows_all_of_it(trained, tmp_path):
    page = (trained / "run" / "report.html").read_text()
    (tmp_path / "page.html").write_text(page.replace("</body>", COUNTS))
    alone = ("--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND", "--no-first-run")
    alone = (*alone, f"--user-data-dir={tmp_path / 'user'}", "--window-size=1300,2400", "--hide-scrollbars")
    done = subprocess.run(
        [CHROMIUM, *alone, f"--screenshot={tmp_path / 'seen.png'}", f"file://{tmp_path / 'page.html'}"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (tmp_path / "seen.png").is_file(), done.stderr
    with Image.open(tmp_path / "seen.png") as screenshot:
        seen = np.asarray(screenshot.convert("RGB"))
    filled = (seen < 250).any(-1)
    thirds = [part.mean() for part in np.array_split(filled, 3)]
    assert min(thirds) > 0.005, f"blank parts: {thirds}"
    dom = subprocess.run(
        [CHROMIUM, *alone, "--dump-dom", f"file://{tmp_path / 'page.html'}"],
        capture_output=True, text=True, timeout=300, check=False,
    ).stdout  # fmt: skip
    assert f"<title>{len(sources(page))} of {len(sources(page))}</title>" in dom


def test_the_best_the_median_and_the_worst_are_different_images():
    scores = dict(enumerate((0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6, 0.0)))
    assert choose(scores, None) == {"worst": (9, 1, 5), "median": (3, 7, 0), "best": (2, 6, 4)}
    error = Figure("rmse", "error", higher_is_better=False)
    assert choose(scores, error, each=1) == {"worst": (2,), "median": (0,), "best": (9,)}
    assert choose({4: 0.5}, None) == {"worst": (4,)}
    assert choose({4: 0.5, 5: 0.25}, None) == {"worst": (5,), "best": (4,)}
    assert choose({}, None) == {}


class Few:
    """Data whose examples are those of one batch."""

    def eval_examples(self, numbers, **options):
        (whole,) = batches(0, 1, COUNT)
        return [{key: value[number : number + 1] for key, value in whole.items()} for number in numbers]


def test_objects_are_ranked_and_drawn_too_and_no_figure_changes(tmp_path):
    watched, evidence = watch(Known(), rank_by="mask_ap")
    metrics = evaluate(Nothing(), {}, watched, batches(0, 1, 4))
    assert metrics == pytest.approx(evaluate(Nothing(), {}, Known(), batches(0, 1, 4)), abs=1e-12)
    assert evidence.ranked_by is not None
    assert evidence.ranked_by.title == "mask AP"
    assert set(evidence.scores) <= set(range(COUNT))
    assert len(evidence.scores) > COUNT // 2
    write_report(
        tmp_path / "report.html",
        title="objects",
        conditions={},
        predict=lambda batch: Known().predict({}, batch),
        task=Known(),
        data=Few(),
        facts=Facts("pets", "", panoptic_cases.CLASSES, (), {}, things=OBJECTS),
        split="val",
        metrics=metrics,
        evidence=evidence,
    )
    page = (tmp_path / "report.html").read_text()
    for title in ("box AP of each class", "mask AP of each class", "panoptic quality of each class"):
        assert f"<h2>{title}</h2>" in page
    assert page.count("data:image/jpeg") == 9


def test_each_of_several_tasks_has_its_matrix():
    both = MultiTask({"parts": Semantic(2), "whole": Semantic(3)})
    watched, evidence = watch(both, rank_by="whole/miou")
    rng = np.random.default_rng(0)
    numbers = {"parts": rng.integers(0, 2, (2, 4, 4)), "whole": rng.integers(0, 3, (2, 4, 4))}
    label = {f"{name}/label": value.astype(np.int32) for name, value in numbers.items()}
    sure = {f"{name}/probability": np.eye(3, dtype=np.float32)[value] for name, value in numbers.items()}
    batch, predictions = {"index": np.arange(2), "real": np.ones(2, bool), **label}, {**label, **sure}
    for name, metric in watched.metrics().items():
        metric.result(metric.fold(metric.init(), jax.jit(metric.observe)(predictions, batch)))
        assert name in evidence.states
    assert [len(state) for _, state in evidence.of_kind(Confusion).values()] == [3, 4]
    assert evidence.scores == {0: 1.0, 1: 1.0}
