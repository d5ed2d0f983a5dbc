"""The rename engine: layouts, and every way in which a file may not fit."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.ops.conv import conv_transpose
from jaxseg.weights.inverse import source_name
from jaxseg.weights.layouts import LAYOUTS, lay_back, lay_out
from jaxseg.weights.names import convert, convert_keeping, rename, restore

RULES = (
    (r"layer(\d)\.conv\.weight", r"layer\1/conv/kernel"),
    (r"layer(\d)\.bn\.running_(mean|var)", r"layer\1/norm/\2"),
    (r"fc\.weight", "fc/kernel"),
    (r".*\.num_batches_tracked", None),
)


def target():
    return {
        "params": {
            "layer1": {"conv": {"kernel": np.zeros((3, 5, 2, 4), np.float32)}},
            "fc": {"kernel": np.zeros((6, 7), np.float32)},
        },
        "batch_stats": {"layer1": {"norm": {"mean": np.zeros(4, np.float32), "var": np.zeros(4, np.float32)}}},
    }


def source():
    rng = np.random.default_rng(0)
    return {
        "layer1.conv.weight": rng.normal(size=(4, 2, 3, 5)),
        "layer1.bn.running_mean": rng.normal(size=4),
        "layer1.bn.running_var": rng.normal(size=4),
        "layer1.bn.num_batches_tracked": np.array(7),
        "fc.weight": rng.normal(size=(7, 6)),
    }


def test_layouts():
    theirs = source()
    ours = convert(theirs, target(), RULES)
    kernel = ours["params"]["layer1"]["conv"]["kernel"]
    assert kernel.dtype == np.float32
    assert kernel[2, 4, 1, 3] == np.float32(theirs["layer1.conv.weight"][3, 1, 2, 4])
    np.testing.assert_array_equal(ours["params"]["fc"]["kernel"], theirs["fc.weight"].T.astype(np.float32))
    var = ours["batch_stats"]["layer1"]["norm"]["var"]
    np.testing.assert_array_equal(var, theirs["layer1.bn.running_var"].astype(np.float32))


def test_dense_weights_read_as_a_window():
    """A fully connected layer over flattened C H W is a convolution with its whole window (FCN section 3.1)."""
    weight = np.random.default_rng(0).normal(size=(4, 2 * 3 * 5))
    kernel = convert({"layer1.conv.weight": weight}, {"params": {"layer1": target()["params"]["layer1"]}}, RULES)
    kernel = kernel["params"]["layer1"]["conv"]["kernel"]
    image = np.random.default_rng(1).normal(size=(2, 3, 5))
    expected = weight @ image.ravel()
    np.testing.assert_allclose(np.einsum("chw,hwco->o", image, kernel), expected, rtol=1e-5)


def test_transposed_kernels_are_marked():
    """With as many channels in as out no shape tells one layout from the other."""
    weight = np.random.default_rng(0).normal(size=(4, 4, 2, 2)).astype(np.float32)
    target = {"params": {"up": {"kernel": np.zeros((2, 2, 4, 4), np.float32)}}}
    kernel = convert({"up.weight": weight}, target, ((r"up\.weight", "up/kernel|iohw"),))["params"]["up"]["kernel"]
    np.testing.assert_array_equal(kernel, weight.transpose(2, 3, 0, 1))


def test_one_slope_fills_every_channel():
    target = {"params": {"act": {"alpha": np.zeros(3, np.float32)}}}
    alpha = convert({"a": np.float32([0.2])}, target, (("a", "act/alpha"),))["params"]["act"]["alpha"]
    np.testing.assert_array_equal(alpha, np.float32([0.2, 0.2, 0.2]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("fc.weight"), "fc/kernel: nothing in the file fills it"),
        (lambda s: s.update({"head.weight": np.zeros(3)}), "head.weight: no rule knows this name"),
        (lambda s: s.update({"layer2.conv.weight": np.zeros(3)}), "the model has no layer2/conv/kernel"),
        (lambda s: s.update({"fc.weight": np.zeros((6, 7))}), r"shape \(6, 7\) does not fit fc/kernel of \(6, 7\)"),
        (lambda s: s.update({"layer1.conv.weight": np.zeros((4, 2, 5, 3))}), r"\(4, 2, 5, 3\) does not fit"),
    ],
)
def test_faults_are_named(change, message):
    changed = source()
    change(changed)
    with pytest.raises(BadInput, match=message):
        convert(changed, target(), RULES)


def test_all_faults_at_once():
    with pytest.raises(BadInput, match="4 weights do not fit the model") as error:
        convert({}, target(), RULES)
    assert str(error.value).count("nothing in the file fills it") == 4
    assert "which has 4: are they of another network or size" in str(error.value)
    with pytest.raises(BadInput, match=r"^1 weights do not fit the model:\n"):
        convert({name: array for name, array in source().items() if name != "fc.weight"}, target(), RULES)


def test_two_sources_for_one_leaf():
    rules = ((r"also\.fc", "fc/kernel"), *RULES)
    with pytest.raises(BadInput, match=r"was already filled by fc\.weight"):
        convert({**source(), "also.fc": np.zeros((7, 6))}, target(), rules)


def test_the_first_rule_decides():
    assert rename("layer3.conv.weight", RULES) == "layer3/conv/kernel"
    assert rename("xlayer3.conv.weight", RULES) == ""
    assert rename("a.num_batches_tracked", RULES) is None


def test_the_nearest_names_are_offered():
    changed = source()
    changed["fc.wieght"] = changed.pop("fc.weight")
    with pytest.raises(BadInput, match="2 weights do not fit") as error:
        convert(changed, target(), RULES)
    assert "fc.wieght: no rule knows this name; nearest: fc/kernel" in str(error.value)
    assert "fc/kernel: nothing in the file fills it; nearest: fc.wieght" in str(error.value)


def test_heads_of_other_classes_keep_their_own_numbers():
    wanted = target()
    wanted["params"]["fc"]["kernel"] = np.full((6, 9), 0.5, np.float32)
    ours, kept, _ = convert_keeping(source(), wanted, RULES, keep=("fc/kernel",))
    assert kept == ("fc/kernel",)
    assert (ours["params"]["fc"]["kernel"] == 0.5).all()
    ours, kept, _ = convert_keeping(source(), target(), RULES, keep=("fc/kernel",))
    assert kept == ()
    with pytest.raises(BadInput, match="does not fit fc/kernel"):
        convert_keeping(source(), wanted, RULES, keep=("layer1/conv/kernel",))


def test_there_and_back_is_the_same_to_the_bit():
    theirs = {name: np.asarray(value, np.float32) for name, value in source().items()}
    theirs["layer1.bn.num_batches_tracked"] = np.zeros((), np.int64)
    back = restore(convert(theirs, target(), RULES), RULES)
    assert back.keys() == theirs.keys()
    for name, value in theirs.items():
        assert back[name].dtype == value.dtype
        np.testing.assert_array_equal(back[name], value)
        assert back[name].flags.c_contiguous


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("shape", [(3, 5, 2, 4), (3, 3, 1, 4), (2, 7)])
def test_layouts_invert(layout, shape):
    if len(shape) == 2 and layout not in ("", "hwio"):
        pytest.skip("a layout of convolutions")
    if layout == "hwcm" and shape[2] != 1:
        pytest.skip("a layout of depthwise convolutions")
    if layout in ("sampled", "yxhw"):
        pytest.skip("a part of a larger array, or a layout of vectors: held where the networks are")
    ours = np.random.default_rng(0).normal(size=shape)
    theirs = lay_back(ours, "kernel", layout)
    found = lay_out(theirs, shape, "kernel", layout)
    np.testing.assert_allclose(found, ours, rtol=1e-14 if layout == "region codes" else 0, atol=0)
    assert lay_out(np.zeros((9, 9, 9)), shape, "kernel", layout) is None


def test_transposed_convolutions_are_never_guessed():
    """A kernel of as many inputs as outputs fits both ways; only the rule can tell which is meant."""
    torch = pytest.importorskip("torch")
    layer = torch.nn.ConvTranspose2d(3, 3, 4, stride=2, padding=1, bias=False)
    image = np.random.default_rng(0).normal(size=(1, 5, 6, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = layer(torch.from_numpy(image).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    state = {"weight": layer.weight.detach().numpy()}
    wanted = {"params": {"kernel": np.zeros((4, 4, 3, 3), np.float32)}}
    right = convert(state, wanted, (("weight", "kernel|iohw"),))["params"]["kernel"]
    wrong = convert(state, wanted, (("weight", "kernel"),))["params"]["kernel"]
    image = jnp.asarray(image)
    ours = conv_transpose(image, jnp.asarray(right), stride=2, padding=1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert np.abs(conv_transpose(image, jnp.asarray(wrong), stride=2, padding=1) - theirs).max() > 0.1
    back = restore({"params": {"kernel": right}}, (("weight", "kernel|iohw"),))
    np.testing.assert_array_equal(back["weight"], state["weight"])


@pytest.mark.parametrize(
    ("rule", "path", "name"),
    [
        ((r"(aux_)?head\.(\d+)\.w", r"\1top/\2/kernel"), "top/3/kernel", "head.3.w"),
        ((r"(aux_)?head\.(\d+)\.w", r"\1top/\2/kernel"), "aux_top/3/kernel", "aux_head.3.w"),
        ((r"(?:net|model)\.(a|b)\.x", r"\1/kernel"), "b/kernel", "net.b.x"),
        ((r"(\d)\.(\d)\.x", r"\2_\1_\2/kernel"), "1_2_1/kernel", "2.1.x"),
        ((r"((\d)_)?x(\d)", r"\3/kernel"), "4/kernel", "x4"),
        ((r".*x", "kernel"), "kernel", None),
        ((r"x+", "kernel"), "kernel", None),
        ((r"[xy]", "kernel"), "kernel", None),
    ],
)
def test_rules_read_backwards(rule, path, name):
    assert source_name(path, (rule,), lambda n: rename(n, (rule,))) == name
    if name is None:
        with pytest.raises(BadInput, match="no rule leads back from kernel"):
            restore({"params": {"kernel": np.zeros(1)}}, (rule,))


FUSED = (
    (r"(a|b)\.kv\.weight", r"\1/{key,value}/kernel|dense"),
    (r"(a|b)\.kv\.bias", r"\1/{key,value}/bias"),
)


def fused():
    leaves = {"kernel": np.zeros((1, 1, 5, 3), np.float32), "bias": np.zeros(3, np.float32)}
    wanted = {"params": {"a": {"key": leaves, "value": leaves}}}
    rng = np.random.default_rng(0)
    theirs = {"a.kv.weight": rng.random((6, 5), np.float32), "a.kv.bias": rng.random(6, np.float32)}
    return theirs, wanted


def test_a_source_is_cut_into_the_leaves_in_braces():
    theirs, wanted = fused()
    ours = convert(theirs, wanted, FUSED)["params"]["a"]
    np.testing.assert_array_equal(ours["key"]["kernel"][0, 0], theirs["a.kv.weight"][:3].T)
    np.testing.assert_array_equal(ours["value"]["kernel"][0, 0], theirs["a.kv.weight"][3:].T)
    np.testing.assert_array_equal(ours["value"]["bias"], theirs["a.kv.bias"][3:])
    back = restore({"params": {"a": ours}}, FUSED)
    assert back.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(back[name], value)


def test_a_part_without_a_name_is_zeros_there_and_nothing_here():
    rules = ((r"qkv\.bias", "{query,,value}/bias"),)
    wanted = {"params": {name: {"bias": np.zeros(2, np.float32)} for name in ("query", "value")}}
    ours = convert({"qkv.bias": np.arange(1, 7, dtype=np.float32)}, wanted, rules)
    assert [ours["params"][name]["bias"].tolist() for name in ("query", "value")] == [[1, 2], [5, 6]]
    assert restore(ours, rules)["qkv.bias"].tolist() == [1, 2, 0, 0, 5, 6]


def test_what_cannot_be_cut_or_joined():
    theirs, wanted = fused()
    with pytest.raises(BadInput, match=r"a\.kv\.bias: shape \(7,\) does not fit a/key/bias of \(3,\)"):
        convert({**theirs, "a.kv.bias": np.zeros(7)}, wanted, FUSED)
    ours = convert(theirs, wanted, FUSED)
    del ours["params"]["a"]["value"]["bias"]
    with pytest.raises(BadInput, match="no rule leads back from a/value/bias"):
        restore(ours, FUSED)


def test_an_unknown_layout():
    with pytest.raises(BadInput, match=r"'oihv'.*'ohwi' or 'iohw'"):
        convert(source(), target(), ((r"layer1\.conv\.weight", "layer1/conv/kernel|oihv"), *RULES))
