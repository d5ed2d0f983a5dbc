"""Recipes from images with depth: what is seen, what follows from it, and that what is written trains and reports."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxseg import registry
from jaxseg.cli.main import main
from jaxseg.configure.decide import STATISTICS, Wishes
from jaxseg.configure.depth import choose_depth
from jaxseg.configure.look import Depths, Look, look
from jaxseg.configure.write import write as written
from jaxseg.conversion.initial import WeightsFrom
from jaxseg.data import Facts
from jaxseg.errors import BadInput
from jaxseg.layers.dense_heads import DenseHeads, DepthHead
from jaxseg.recipe import dump, load, load_file
from jaxseg.train.checkpoint import Checkpoints
from tests.data.folder_trees import picture, write

RNG = np.random.default_rng(0)
SIZE = (24, 32)
FACTS = Facts("rooms", "", (), (), {}, keys=("image", "depth", "depth_valid"))
ROOMS = Look(
    *("rooms", (), FACTS, "train", "val", 400, ((480, 640),), ((480, 640),), "uint8"),
    mean=(100.0,) * 3,
    std=(50.0,) * 3,
    depth=Depths((0.8, 2.0, 4.0), 0.4, 0.11),
)


def texts(decisions):
    return [decision.text for decision in decisions]


def rooms(root, count=5):
    """Images whose depth grows downwards, from 1 to 3 m, with holes."""
    for number in range(count):
        depth = np.linspace(1.0, 3.0, SIZE[0])[:, None] * RNG.uniform(0.95, 1.05, SIZE)
        depth[RNG.random(SIZE) < 0.1] = 0
        for split in ("train", "val"):
            write(root / f"{split}/images/{number}.png", picture(number, (*SIZE, 3)))
            write(root / f"{split}/depth/{number}.npy", depth.astype(np.float32))
    return root


def test_depth_is_seen_as_numpy_sees_it_and_a_bad_file_shows_before_the_first_step(tmp_path):
    found = look(f"folder:{rooms(tmp_path)}")
    known = np.concatenate([np.load(path).ravel() for path in sorted(tmp_path.glob("train/depth/*.npy"))])
    share = float((known == 0).mean())
    known = known[known > 0]
    np.testing.assert_allclose(found.depth.metres, np.quantile(known, (0.01, 0.5, 0.99)), rtol=0.01)
    assert found.depth.log_spread == pytest.approx(np.log(known).std(), rel=0.01)
    assert found.depth.missing == pytest.approx(share, abs=1e-3)
    write(tmp_path / "val/depth/3.npy", np.zeros(SIZE, np.float32))
    with pytest.raises(BadInput, match=r"val/depth/3.npy has no pixel of known depth"):
        look(f"folder:{tmp_path}")


def test_whole_views_are_scaled_and_zoomed_with_their_depth_and_judged_at_that_scale():
    plan = choose_depth(ROOMS, Wishes("unet", batch_size=8), device="cpu")
    assert texts(plan.train) == [
        "ResizeWithin(256, 192)",
        "RandomFlip()",
        "RandomZoom(1.0, 1.25)",
        "RandomCrop(192, 256)",
        "Photometric(0.2, 0.2, 0.2)",
    ]
    assert texts(plan.val) == ["ResizeWithin(256, 192)"]
    assert texts(plan.losses) == ["ScaleInvariant()", "L1Log()"]
    assert (plan.depth.head.text, plan.depth.keys[1:]) == (
        "DepthHead(shift=0.693, scale=0.4)",
        ("index", "depth", "depth_valid"),
    )
    large = choose_depth(ROOMS, Wishes("unet", batch_size=8), device="accelerator")
    assert texts(large.train)[0] == "RandomFlip()"
    assert "RandomCrop(480, 640)" in texts(large.train)
    assert large.val == ()
    half = choose_depth(ROOMS, Wishes("unet", batch_size=8, crop=(240, 320)), device="cpu")
    assert texts(half.train)[0] == "ResizeWithin(320, 240)"
    assert "RandomCrop(240, 320)" in texts(half.train)
    several = dataclasses.replace(ROOMS, val_sizes=tuple((480 + 16 * k, 640) for k in range(9)))
    assert texts(choose_depth(several, Wishes("unet", batch_size=8), device="cpu").val)[1].startswith("PadTo(")


def test_weights_freezing_and_layer_decay_reach_the_network_inside():
    wishes = Wishes("fpn_resnet50", "timm:resnet50.a1_in1k", ("^backbone/conv1",), batch_size=2)
    plan = choose_depth(ROOMS, wishes, device="cpu")
    assert plan.freeze.text == f'(r"^network/backbone/conv1", r"^network/{STATISTICS[1:]}",)'
    assert plan.multipliers.text == '((r"^network/backbone/", 0.3),)'
    slow = choose_depth(ROOMS, dataclasses.replace(wishes, layer_decay=0.8, batch_size=8), device="cpu")
    assert slow.multipliers.text == 'layer_decay(model, 0.8, part="network/backbone")'


def test_networks_of_relative_depth_learn_metres_with_a_new_last_layer_and_others_are_refused():
    small = registry.create_small("depth_anything_v2_small")
    entry = dataclasses.replace(registry.find("depth_anything_v2_small"), build=lambda max_depth=0.0: small)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._entries, "depth_anything_v2_small", entry)
        plan = choose_depth(ROOMS, Wishes("depth_anything_v2_small", "hf:a/b", batch_size=2), device="cpu")
    assert plan.fields["max_depth"].text == "5.0"
    assert plan.init.text == 'WeightsFrom("hf:a/b", fresh=(r"^head3/",))'
    assert plan.depth.head is None
    with pytest.raises(
        BadInput, match=r"depth is learnt by every network of label maps .* and by .*dpt_large.*multitask"
    ):
        choose_depth(ROOMS, Wishes("eigen_fergus_vgg16"))
    with pytest.raises(BadInput, match="has no depth"):
        choose_depth(dataclasses.replace(ROOMS, depth=None), Wishes("unet"))


@pytest.mark.parametrize("words", [(), ("^backbone/",)], ids=["plain", "frozen"])
def test_a_written_recipe_is_tidy_python_that_loads_to_a_value_and_names_its_reasons(words, tmp_path):
    path = tmp_path / "mine.py"
    plan = choose_depth(ROOMS, Wishes("unet", freeze=words, patience=3, batch_size=2), device="cpu")
    path.write_text(written(plan, name="mine", command="jaxseg new rooms"))
    value = load_file(path)
    (stage,) = value.stages
    assert load(dump(value)) == value
    assert isinstance(stage.model, DenseHeads)
    assert (stage.keep_best, stage.patience, stage.model.network.num_classes) == ("delta1", 3, 1)
    said = " ".join(path.read_text().replace("#", " ").split())
    for decision in (*plan.train, *plan.losses, plan.depth.head, plan.steps):
        assert " ".join(decision.why.split()) in said
    pytest.importorskip("ruff")
    tidy = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120", str(path)]
    assert subprocess.run(tidy, capture_output=True).returncode == 0


def test_weights_of_a_network_of_classes_or_of_another_with_heads_fill_the_network_inside(tmp_path):
    network = registry.create_small("unet", num_classes=4)
    image = jax.ShapeDtypeStruct((1, 16, 16, 3), np.uint8)
    wrapped = DenseHeads(network.clone(num_classes=1), (DepthHead(),))
    wanted = jax.eval_shape(wrapped.init, jax.random.key(0), image)
    for name, model in (("classes", network), ("depth", wrapped)):
        shapes = jax.eval_shape(model.init, jax.random.key(0), image)
        ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
        kept = Checkpoints(tmp_path / name / "checkpoints", keep=1)
        state = {key: tree for key, tree in ones.items() if key != "params"}
        kept.save(1, {"params": ones["params"], "model_state": state}, notes={})
        kept.close()
        said = []
        found = WeightsFrom(str(kept.folder)).load(wanted, model=wrapped, log=said.append)
        inside = found["params"]["network"]
        assert jax.tree.all(jax.tree.map(lambda leaf: bool((leaf == 1).all()), inside))
        assert ("classifier" in inside) == (name == "depth")
    spared = WeightsFrom(str(kept.folder), fresh=("^classifier/",)).load(wanted, model=wrapped, log=said.append)
    assert "classifier" not in spared["params"]["network"]
    assert "start afresh, as asked for" in said[-1]
    with pytest.raises(BadInput, match="no variable is called as in fresh"):
        WeightsFrom(str(kept.folder), fresh=("^nothing",)).load(wanted, model=wrapped)


def test_one_command_trains_on_depth_evaluates_predicts_and_reports(narrow, capsys):
    rooms(narrow / "rooms", 3)
    command = ["train", "--data", "rooms", "--model", "unet", "--steps", "2", "--batch-size", "2"]
    assert main(command) == 0, capsys.readouterr().err
    run = narrow / "runs" / "rooms_unet"
    (stage,) = load_file(run / "recipe.py").stages
    image = jnp.asarray([picture(number, (*SIZE, 3)) for number in range(3)])
    guess, _ = stage.model.init_with_output(jax.random.key(0), image)
    assert 1 / 1.5 < np.median(guess["depth"]) / 2.0 < 1.5, "about the data's median before any step"
    page = (run / "report.html").read_text()
    assert "delta &lt; 1.25" in page
    assert "absolute relative error" in page
    assert "Confusion" not in page
    assert "of each class" not in page
    assert page.count("data:image/jpeg") >= 3
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    assert '"delta1"' in capsys.readouterr().out
    assert main(["predict", str(run), "rooms/val/images/0.png", "--out", "out"]) == 0
    assert (narrow / "out/0_depth.png").is_file()
    with Image.open("out/0_depth_mm.png") as stored:
        assert np.asarray(stored).shape == SIZE


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (
            lambda root: write(root / "train/depth/1.npy", np.zeros(SIZE, np.float32)),
            "1.npy has no pixel of known depth",
        ),
        (lambda root: (root / "val/depth/1.npy").unlink(), "val/images/1.png has no depth; add it"),
    ],
    ids=["nothing known", "no depth"],
)
def test_mistakes_in_depth_are_one_line_before_the_first_step(narrow, capsys, spoil, fault):
    spoil(rooms(narrow / "rooms", 3))
    assert main(["train", "--data", "rooms", "--model", "unet"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert fault in line
    assert not (narrow / "runs").exists()


def test_a_detector_on_depth_is_refused_with_what_there_is(narrow, capsys):
    rooms(narrow / "rooms", 2)
    assert main(["new", "rooms", "--model", "faster_rcnn_resnet50_fpn"]) == 2
    assert "has depth and no objects" in capsys.readouterr().err
