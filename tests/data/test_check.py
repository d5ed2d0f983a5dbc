"""``jaxseg data check``: what a folder holds, and all that is wrong with it, each named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg.cli.main import main
from jaxseg.data.check import check
from jaxseg.data.folders import scan
from jaxseg.errors import BadInput
from tests.data.test_exports import FORMATS

SIZE = (12, 16)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def cells(root: Path) -> Path:
    """Six images of train and two of val; a cell of 12 pixels in each."""
    rng = np.random.default_rng(0)
    for number in range(8):
        split = "train" if number < 6 else "val"
        mask = np.zeros(SIZE, np.uint8)
        mask[2:5, 3:7] = 1
        write(root / split / "images" / f"{number}.png", rng.integers(0, 256, (*SIZE, 3), np.uint8))
        write(root / split / "masks" / f"{number}.png", mask)
    (root / "classes.csv").write_text("name,id\nground,0\ncell,1\nghost,2\n")
    return root


def test_a_sound_folder_is_described_and_usable(tmp_path):
    found = check(str(cells(tmp_path)))
    assert found.usable
    assert (found.splits, found.sizes) == ({"train": 6, "val": 2}, {"12 x 16": 8})
    assert found.formats == {"3 bands of uint8": 8}
    assert found.values == {"0": 8, "1": 8}
    rows = [(row.name, row.pixels, row.images) for row in found.classes]
    assert rows == [("ground", 8 * (192 - 12), 8), ("cell", 8 * 12, 8), ("ghost", 0, 0)]
    assert found.classes[1].share == pytest.approx(12 / 192)
    assert found.warnings == ("classes without a pixel: ghost",)


def test_every_problem_is_listed_and_none_hides_another(tmp_path):
    cells(tmp_path)
    (tmp_path / "train/masks/0.png").unlink()
    (tmp_path / "train/images/1.png").write_bytes(b"no image")
    write(tmp_path / "train/masks/2.png", np.zeros((12, 15), np.uint8))
    write(tmp_path / "train/masks/3.png", np.full(SIZE, 9, np.uint8))
    damaged = tmp_path / "val/images/6.png"
    damaged.write_bytes(damaged.read_bytes()[:-400])
    found = check(str(tmp_path))
    assert not found.usable
    for name, why in (("0.png", "has no mask"), ("1.png", "not an image"), ("2.png", "label is 15x12"), ("3.png", "9")):
        assert [line for line in found.problems if f"train/images/{name}" in line or f"train/masks/{name}" in line], why
        assert any(why in line for line in found.problems)
    assert any("val/images/6.png" in line for line in found.problems)
    assert len(found.problems) == 5
    assert found.splits == {"train": 2, "val": 1}
    with pytest.raises(BadInput, match=r"0.png has no mask"):
        scan.scan(tmp_path)  # and training is not led to take what is left


def test_strange_things_are_warned_of(tmp_path):
    cells(tmp_path)
    shutil.copy(tmp_path / "train/images/0.png", tmp_path / "val/images/7.png")
    write(tmp_path / "train/masks/1.png", np.zeros(SIZE, np.uint8))
    write(tmp_path / "train/images/2.png", np.full((*SIZE, 3), 7, np.uint8))
    found = check(str(tmp_path))
    assert found.usable
    assert found.duplicates == (("train/0", "val/7"),)
    assert found.empty == ("train/1",)
    assert found.blank == ("train/2",)
    assert len(found.warnings) == 4


@pytest.mark.parametrize(("reader", "make"), [param.values[:2] for param in FORMATS], ids=[p.id for p in FORMATS])
def test_exports_are_checked_too(reader, make, tmp_path):
    found = check(str(make(tmp_path)))
    assert found.usable, found.problems
    assert [(row.name, row.objects) for row in found.things] == [("cell", 1), ("dirt", 1)]
    assert found.classes[0].name == "background"


def test_the_command_leaves_a_page_a_sheet_and_json(tmp_path, capsys):
    cells(tmp_path / "cells")
    assert main(["data", "check", str(tmp_path / "cells"), "--out", str(tmp_path / "out")]) == 0
    assert "training would run" in capsys.readouterr().out
    page = (tmp_path / "out/index.html").read_text()
    assert page.count("<figure>") == 8
    assert "http" not in page
    with Image.open(tmp_path / "out/contact_sheet.png") as sheet:
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 100
    assert json.loads((tmp_path / "out/check.json").read_text())["splits"] == {"train": 6, "val": 2}


def test_the_status_is_2_if_training_would_fail(tmp_path, capsys):
    cells(tmp_path)
    (tmp_path / "train/masks/0.png").unlink()
    (tmp_path / "train/images/1.png").write_bytes(b"")
    assert main(["data", "check", str(tmp_path), "--json"]) == 2
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["usable"], len(found["problems"])) == (False, 2)
    (line,) = said.err.splitlines()
    assert "would fail" in line
    assert "0.png has no mask" in line


def test_a_folder_of_nothing_is_one_problem(tmp_path):
    found = check(str(tmp_path))
    assert len(found.problems) == 1
    with pytest.raises(BadInput, match=r"there is no folder .* and no data set of that name"):
        check("nowhere")
