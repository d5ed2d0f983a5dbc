"""``jaxseg data check`` of images with depth: what is missing, how far it goes, what its unit must be, pictures."""

import json

import numpy as np
import pytest

from jaxseg.cli.main import main
from jaxseg.data.check import check
from jaxseg.data.check_depth import DepthTally
from jaxseg.data.depth_counts import DepthCounts
from jaxseg.viz.contact_sheet import thumbnail
from tests.data.folder_trees import picture, write

RNG = np.random.default_rng(0)
SIZE = (24, 32)


def metres(low=0.8, high=4.0, holes=0.2):
    """A map of depth with holes."""
    depth = RNG.uniform(low, high, SIZE)
    return np.where(RNG.random(SIZE) < holes, 0, depth)


def rooms(root, depths):
    for number, depth in enumerate(depths):
        write(root / f"images/{number}.png", picture(number, (*SIZE, 3)))
        write(root / f"depth/{number}.png", (1000 * depth).round().astype(np.uint16))
    return root


def test_what_is_missing_and_the_quantiles_are_those_of_numpy_and_depth_counts_as_annotated(tmp_path):
    depths = [metres() for _ in range(6)]
    found = check(str(rooms(tmp_path, depths)))
    known = np.concatenate([depth[depth > 0] for depth in depths])
    assert found.depth.missing == pytest.approx(1 - known.size / (6 * 24 * 32), abs=1e-4)
    wanted = np.quantile(known, (0.01, 0.5, 0.99))
    np.testing.assert_allclose((found.depth.nearest, found.depth.median, found.depth.farthest), wanted, rtol=0.01)
    assert (found.depth.images, found.unknown, found.empty, found.warnings) == (6, (), (), ())
    assert found.usable


def test_the_command_says_so_and_draws_depth_beside_its_images(tmp_path, capsys):
    rooms(tmp_path / "rooms", [metres() for _ in range(4)])
    assert main(["data", "check", str(tmp_path / "rooms"), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "depth: 0." in out
    assert "nothing is annotated" not in out
    assert "training would run" in out
    page = (tmp_path / "out/index.html").read_text()
    assert "<dt>depth</dt>" in page
    assert page.count("<figure>") == 4
    assert json.loads((tmp_path / "out/check.json").read_text())["depth"]["images"] == 4


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (
            lambda root: write(root / "depth/1.png", np.zeros(SIZE, np.uint16)),
            "depth/1.png has no pixel of known",
        ),
        (lambda root: (root / "depth/1.png").unlink(), "images/1.png has no depth; add it"),
        (
            lambda root: write(root / "depth/1.png", np.full((12, 16), 900, np.uint16)),
            "is 32x24 but its label is 16x12",
        ),
    ],
    ids=["nothing known", "no depth", "another size"],
)
def test_a_wrong_twin_is_one_line_and_training_would_fail(tmp_path, capsys, spoil, fault):
    spoil(rooms(tmp_path, [metres() for _ in range(4)]))
    assert main(["data", "check", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "training would fail: 1 problems" in said.out
    assert "training would run" not in said.out
    (line,) = said.err.strip().splitlines()
    assert fault in line


def test_a_unit_that_can_hardly_be_right_is_said_and_how_to_say_another(tmp_path):
    (warning,) = check(str(rooms(tmp_path, [0.1 * metres() for _ in range(4)]))).warnings
    assert warning.startswith("half of the depths are nearer than 0.2")
    assert "--option unit=cm" in warning
    assert check(str(tmp_path), options=[("unit", "cm")]).warnings == ()


def tallied(*records):
    tally = DepthTally()
    for number, record in enumerate(records):
        tally.add(f"train/{number}", record)
    return tally


def test_images_without_known_depth_or_of_another_unit_are_named():
    plain = [{"depth": metres()} for _ in range(5)]
    odd = tallied(*plain, {"depth": 1000 * metres()}, {"depth": metres(), "depth_valid": np.zeros(SIZE, bool)})
    assert odd.unknown == ["train/6"]
    lines = odd.warnings(True)
    assert "no pixel of known depth in 1 images: train/6" in lines
    assert "depth of another unit than in most images: train/5" in lines
    assert tallied(*plain).warnings(True) == []


def test_a_code_for_unknown_is_seen_and_a_plain_far_wall_is_not():
    coded = np.where(metres() == 0, 65.535, metres(holes=0))
    (line,) = tallied({"depth": coded}).warnings(True)
    assert "have the greatest depth, 65.5 m: if that stands for unknown, write 0" in line
    wall = np.minimum(metres(holes=0, high=6), 5.0)
    assert tallied({"depth": wall}).warnings(True) == []


def test_counts_add_up_and_their_spread_is_that_of_the_log():
    parts = [{"depth": metres()} for _ in range(3)]
    whole = sum((DepthCounts.of(part) for part in parts), DepthCounts.none())
    known = np.concatenate([part["depth"][part["depth"] > 0] for part in parts])
    assert whole.known.sum() == known.size
    assert whole.log_spread == pytest.approx(np.log(known).std(), rel=1e-3)


def test_depth_stands_beside_its_image_above_metres_with_black_holes():
    record = {"image": picture(0, (*SIZE, 3)), "depth": np.where(np.arange(32) < 16, 2.0, 0.0) * np.ones((24, 1))}
    drawn = thumbnail("a", record, None, side=64).picture
    assert drawn.shape[1] == 2 * 64 + 2
    assert drawn.shape[0] > 48
    depth = drawn[:48, 66:]
    assert depth[:, 32:].max() == 0
    assert depth[:, :32].min(axis=(0, 1)).max() > 0
    assert (drawn[48:, :64] == 255).all(), "white below the image, where the scale of depth stands beside it"
