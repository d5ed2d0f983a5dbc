"""Depth and normals: errors against NumPy, losses against their equations, and what is unknown counts nowhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.data import Facts
from jaxseg.errors import BadInput
from jaxseg.layers.dense_heads import DenseHeads, DepthHead, LabelHead, NormalHead
from jaxseg.losses import BerHu, L1Log, NormalCosine, ScaleInvariant
from jaxseg.metrics import DepthErrors, NormalErrors
from jaxseg.models.semantic.unet import unet
from jaxseg.recipe import dump, load
from jaxseg.tasks.depth import Depth
from jaxseg.tasks.maps import Cells
from jaxseg.tasks.normals import Normals
from jaxseg.tasks.protocol import Task


def holed(rows=5, size=(6, 7), seed=0):
    """Predicted and true depth, holes in the truth that hold nonsense."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 9.0, (rows, *size)).astype(np.float32)
    depth = (truth * np.exp(rng.normal(0, 0.3, truth.shape))).astype(np.float32)
    known = rng.random(truth.shape) < 0.7
    known[0] = False
    return depth, np.where(known, truth, 77.0).astype(np.float32), known


def directions(rows=3, size=(6, 7), seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, *size, 3)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def figures(metric, predictions, batch, cuts):
    state, start = metric.init(), 0
    for count in cuts:
        part = [{k: jnp.asarray(v[start : start + count]) for k, v in d.items()} for d in (predictions, batch)]
        state, start = metric.fold(state, metric.observe(*part)), start + count
    return metric.result(state)


def test_errors_of_depth_are_those_of_the_papers():
    depth, truth, known = holed()
    batch = {"depth": truth, "depth_valid": known}
    found = figures(DepthErrors(), {"depth": depth}, batch, [5])
    d, t = depth[known].astype(np.float64), truth[known].astype(np.float64)
    ratio, log = np.maximum(d / t, t / d), np.log(d) - np.log(t)
    expected = {
        "abs_rel": np.mean(np.abs(d - t) / t),
        "sq_rel": np.mean((d - t) ** 2 / t),
        "rmse": np.sqrt(np.mean((d - t) ** 2)),
        "rmse_log": np.sqrt(np.mean(log**2)),
        "log10": np.mean(np.abs(np.log10(d) - np.log10(t))),
        **{f"delta{i}": np.mean(ratio < 1.25**i) for i in (1, 2, 3)},
        "si_log": np.sqrt(np.mean([np.var(np.log(depth[i][known[i]] / truth[i][known[i]])) for i in range(1, 5)])),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_errors_within_images_first_are_the_means_of_the_images_own():
    depth, truth, known = holed()
    batch = {"depth": truth, "depth_valid": known}
    found = figures(DepthErrors(average="images"), {"depth": depth}, batch, [5])
    each = [np.sqrt(np.mean((depth[i] - truth[i])[known[i]] ** 2)) for i in range(1, 5)]
    np.testing.assert_allclose(found["rmse"], np.mean(each), rtol=1e-5)


@pytest.mark.parametrize("metric", [DepthErrors(), DepthErrors(average="images", align="median"), NormalErrors()])
def test_figures_do_not_depend_on_how_a_split_is_cut(metric):
    depth, truth, known = holed()
    batch = {"depth": truth, "depth_valid": known, "normal": directions(5), "normal_valid": known}
    predictions = {"depth": depth, "normal": directions(5, seed=1)}
    whole = figures(metric, predictions, batch, [5])
    assert whole
    assert figures(metric, predictions, batch, [2, 2, 1]) == whole
    assert figures(metric, predictions, {**batch, "real": np.arange(5) < 3}, [5]) == figures(
        metric, predictions, batch, [3]
    )


def test_a_prediction_aligned_by_medians_is_judged_without_its_scale():
    depth, truth, known = holed()
    batch = {"depth": truth, "depth_valid": known}
    aligned = DepthErrors(align="median")
    found = [figures(aligned, {"depth": f * depth}, batch, [5])["abs_rel"] for f in (1.0, 4.0)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    assert figures(DepthErrors(), {"depth": 4 * depth}, batch, [5])["abs_rel"] > 2


@pytest.mark.parametrize("region", ["eigen", "toolbox"])
def test_only_the_region_counts(region):
    """Wrong everywhere but in the region, whose rows and columns are those that evaluators of NYU use."""
    rows, columns = {"eigen": (426, 560), "toolbox": (427, 561)}[region]
    depth = np.full((1, 480, 640), 9.0, np.float32)
    top, left = 471 - rows, 601 - columns
    depth[:, top:471, left:601] = 2.0
    batch = {"depth": np.full_like(depth, 2.0)}
    metric = DepthErrors(region=region)
    assert figures(metric, {"depth": depth}, batch, [1])["abs_rel"] == 0
    depth[0, top, left] = 4.0
    assert figures(metric, {"depth": depth}, batch, [1])["abs_rel"] > 0
    with pytest.raises(BadInput, match="480x640, but these are 6x7"):
        metric.observe({"depth": jnp.ones((1, 6, 7))}, {"depth": jnp.ones((1, 6, 7))})


def test_depth_beyond_the_limits_does_not_count_and_predictions_are_clipped_to_them():
    batch = {"depth": np.asarray([[[1.0, 90.0, 70.0]]], np.float32)}
    found = figures(DepthErrors(farthest=80.0), {"depth": np.asarray([[[1.0, 1.0, 500.0]]], np.float32)}, batch, [1])
    np.testing.assert_allclose(found["rmse"], np.sqrt(10.0**2 / 2), rtol=1e-6)


def test_errors_of_normals_are_angles():
    normal, truth = directions(seed=1), directions(seed=2)
    known = np.random.default_rng(0).random(truth.shape[:3]) < 0.7
    found = figures(NormalErrors(), {"normal": normal}, {"normal": truth, "normal_valid": known}, [3])
    degrees = np.rad2deg(np.arccos(np.clip((normal * truth).sum(-1), -1, 1)))[known]
    np.testing.assert_allclose(found["mean_angle"], degrees.mean(), atol=0.01)
    assert abs(found["median_angle"] - np.sort(degrees)[(degrees.size - 1) // 2]) < 0.011
    for name, limit in (("within_11", 11.25), ("within_22", 22.5), ("within_30", 30.0)):
        assert found[name] == pytest.approx((degrees < limit).mean(), abs=1.5 / degrees.size)


def test_nothing_known_gives_no_figures_and_no_loss():
    depth, truth, known = holed()
    batch = {"depth": jnp.asarray(truth), "depth_valid": jnp.zeros(known.shape, bool)}
    assert figures(DepthErrors(), {"depth": depth}, batch, [5]) == {}
    terms = Depth((ScaleInvariant(), BerHu(), L1Log())).loss({"depth": jnp.asarray(depth)}, batch)
    assert all(float(term.sum) == float(term.count) == 0.0 for term in terms.values())


def test_the_scale_invariant_loss_is_equation_1_of_eigen_and_fergus():
    depth, truth, known = holed()
    values, counts = ScaleInvariant()(jnp.asarray(depth), jnp.asarray(truth), jnp.asarray(known))
    for i in range(1, 5):
        d = np.where(known[i], np.log(depth[i]) - np.log(truth[i]), np.nan)
        n = known[i].sum()
        steps = np.nansum((d[1:] - d[:-1]) ** 2) + np.nansum((d[:, 1:] - d[:, :-1]) ** 2)
        expected = np.nansum(d**2) / n - np.nansum(d) ** 2 / (2 * n**2) + steps / n
        np.testing.assert_allclose(values[i], expected, rtol=1e-5)
    assert counts.tolist() == [0, 1, 1, 1, 1]


def test_berhu_is_linear_up_to_a_fifth_of_the_largest_error_and_quadratic_beyond():
    truth = jnp.full((1, 1, 3), 10.0)
    values, _ = BerHu()(truth + jnp.asarray([[[1.0, -5.0, 10.0]]]), truth, jnp.ones((1, 1, 3), bool))
    np.testing.assert_allclose(values[0, 0], [1.0, (25 + 4) / 4, (100 + 4) / 4], rtol=1e-6)


@pytest.mark.parametrize("loss", [ScaleInvariant(), BerHu(), L1Log()], ids=lambda loss: loss.name)
def test_gradients_of_depth_losses_are_finite_and_nothing_flows_from_holes(loss):
    depth, truth, known = (jnp.asarray(x) for x in holed())
    truth = jnp.where(known, truth, 0.0)
    slope = jax.grad(lambda d: loss(d, truth, known)[0].sum())(depth)
    assert np.isfinite(slope).all()
    assert not np.asarray(slope)[~np.asarray(known)].any()
    assert np.asarray(slope)[np.asarray(known)].all()


def test_a_normal_learns_to_point_where_the_truth_does():
    truth = jnp.asarray(directions())
    x = jnp.asarray(directions(seed=1))
    head, loss = NormalHead(), NormalCosine()
    known = jnp.ones(truth.shape[:3], bool)

    def of(x):
        return loss(head(x)["normal"], truth, known)[0].mean()

    for _ in range(60):
        x = x - 30 * jax.grad(of)(x)
    assert float(of(x)) < 0.02


def test_rows_that_are_not_real_add_nothing_even_if_they_are_not_numbers():
    depth, truth, known = (jnp.asarray(x) for x in holed())
    batch = {"depth": truth, "depth_valid": known}
    task = Depth((ScaleInvariant(), BerHu(), L1Log()))
    part = task.loss({"depth": depth[:4]}, {k: v[:4] for k, v in batch.items()})
    whole = task.loss({"depth": depth.at[4].set(jnp.nan)}, {**batch, "real": jnp.arange(5) < 4})
    for name, term in part.items():
        np.testing.assert_allclose(whole[name].sum, term.sum, rtol=1e-6)
        assert whole[name].count == term.count


def test_smaller_maps_are_held_against_the_middle_and_cells_against_their_pixels():
    depth, truth, known = (jnp.asarray(x) for x in holed(size=(12, 13)))
    batch = {"depth": truth, "depth_valid": known}
    inner = Depth().loss({"depth": depth[:, 2:-2, 2:-3]}, batch)["scale_invariant"]
    cut = Depth().loss({"depth": depth[:, 2:-2, 2:-3]}, {k: v[:, 2:-2, 2:-3] for k, v in batch.items()})
    assert inner == cut["scale_invariant"]
    cells = Depth(cells=Cells(1, 3, 2)).loss({"depth": depth}, batch)["scale_invariant"]
    picked = Depth().loss({"depth": depth[:, 1:10:3, 1:11:3]}, {k: v[:, 1:10:3, 1:11:3] for k, v in batch.items()})
    np.testing.assert_allclose(cells.sum, picked["scale_invariant"].sum, rtol=1e-6)


def test_what_is_not_computed_carries_no_loss():
    depth, truth, known = (jnp.asarray(x) for x in holed())
    computed = jnp.zeros(known.shape, bool).at[:, 1:4, 2:6].set(True)
    task = Depth((L1Log(),))
    seen = task.loss({"depth": depth, "computed": computed}, {"depth": truth, "depth_valid": known})["l1_log"]
    assert float(seen.count) == float((known & computed).sum())


@pytest.mark.parametrize("task", [Depth((BerHu(), L1Log()), DepthErrors("eigen"), Cells(5, 2, 6)), Normals()])
def test_they_are_tasks_and_values(task):
    assert isinstance(task, Task)
    assert load(dump(task)) == task


def test_data_without_depth_or_normals_are_refused_by_name():
    facts = Facts("camvid", "", (), (), {}, keys=("image", "label"))
    for task, what in ((Depth(), "depth"), (Normals(), "normals")):
        with pytest.raises(BadInput, match=f"'camvid' has no {what}, only image, label"):
            task.check_facts(facts)


def test_any_network_that_labels_pixels_has_heads_for_other_maps():
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3)), jnp.uint8)
    heads = (LabelHead(2, task="parts"), DepthHead(shift=1.0, scale=0.5), NormalHead())
    network = unet(num_classes=6, depth=1, width=2)
    model = DenseHeads(network, heads)
    assert load(dump(model)) == model
    variables = model.init(jax.random.key(0), image)
    outputs = model.apply(variables, image)
    alone = network.apply({k: v["network"] for k, v in variables.items()}, image)["logits"]
    np.testing.assert_allclose(outputs["parts/logits"], alone[..., :2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs["depth"], np.exp(1 + 0.5 * alone[..., 2]), rtol=1e-5)
    length = np.linalg.norm(alone[..., 3:], axis=-1, keepdims=True)
    np.testing.assert_allclose(outputs["normal"] * length, alone[..., 3:], atol=1e-4)
    with pytest.raises(BadInput, match="5 outputs, but its heads read 6"):
        jax.eval_shape(lambda: DenseHeads(unet(num_classes=5, depth=1, width=2), heads).init(jax.random.key(0), image))
