"""Folders that segmentation-models-pytorch saved: built from their config.json, filled, and the same logits."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import jaxseg
from jaxseg.backbones import resnet
from jaxseg.backbones.encoders import ENCODERS
from jaxseg.conversion.importer import rules_of
from jaxseg.conversion.smp import OPTIONS, saved
from jaxseg.conversion.smp_encoders import names_of
from jaxseg.errors import BadInput
from jaxseg.export.torch import write
from jaxseg.layers.standardize import CENTRED, IMAGENET, UNIT
from jaxseg.registry import create_model, find
from jaxseg.weights.names import convert, kept_elsewhere, restore

DEFAULTS = {"in_channels": 3, "activation": None, "aux_params": None, "encoder_weights": None, "encoder_depth": 5}


def config(kind, encoder="resnet18", classes=3, **options):
    return {"_model_class": kind, "encoder_name": encoder, "classes": classes, **DEFAULTS, **options}


def a_folder(path, form, change=None):
    """A folder as ``save_pretrained`` lays it out, with random numbers under the names of a network of ours."""
    path.mkdir()
    network = saved(form)
    image = jax.ShapeDtypeStruct((1, 64, 64, network.model.in_channels), np.uint8)
    shapes = jax.eval_shape(network.model.init, jax.random.key(0), image)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.3, leaf.shape).astype(np.float32), shapes)
    state = restore(variables, network.rules)
    save_file(state if change is None else change(state), path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(form))
    return variables


def same(ours, theirs):
    return jax.tree.all(jax.tree.map(np.array_equal, dict(ours), dict(theirs)))


def test_a_folder_says_what_it_is(tmp_path):
    variables = a_folder(tmp_path / "unet", config("Unet"))
    run = jaxseg.import_weights(tmp_path / "unet")
    assert run.model == create_model("unet_resnet18", num_classes=3)
    assert (run.name, run.card.origin["implementation"]) == ("unet_resnet18", "smp")
    assert len(run.card.origin["sha256"]) == 64
    assert same(run.variables, variables)
    named = jaxseg.import_weights(tmp_path / "unet", "unet_resnet18")
    assert named.model == run.model
    with pytest.raises(BadInput, match="weights do not fit the model"):
        jaxseg.import_weights(tmp_path / "unet", "unet_resnet34")
    reinitialized = jaxseg.import_weights(tmp_path / "unet", fields={"num_classes": 5})
    assert reinitialized.card.origin["reinitialized"] == ["classifier/bias", "classifier/kernel"]
    with pytest.raises(BadInput, match="'width' needs a model's name"):
        jaxseg.import_weights(tmp_path / "unet", fields={"width": 5})
    (tmp_path / "unet" / "config.json").unlink()
    with pytest.raises(BadInput, match="does not say which network it is of"):
        jaxseg.import_weights(tmp_path / "unet")


def test_one_output_becomes_two(tmp_path):
    """Nothing against object: their sigmoid is our softmax."""

    def single(state):
        return {name: value[1:] if name.startswith("segmentation_head") else value for name, value in state.items()}

    form = config("Unet", classes=1, activation="sigmoid", decoder_channels=[8, 8, 4, 4, 4])
    variables = a_folder(tmp_path / "unet", form, single)
    run = jaxseg.import_weights(tmp_path / "unet")
    assert run.model.num_classes == 2
    head, kept = (tree["params"]["classifier"] for tree in (run.variables, variables))
    assert not head["kernel"][..., 0].any()
    assert head["bias"][0] == 0
    np.testing.assert_array_equal(head["kernel"][..., 1], kept["kernel"][..., 1])
    assert head["bias"][1] == kept["bias"][1]


@pytest.mark.parametrize("encoder", ["resnet18", "tu-mobilenetv3_small_100"])
def test_other_numbers_of_channels(tmp_path, encoder):
    variables = a_folder(tmp_path / "unet", config("Unet", encoder, in_channels=4))
    run = jaxseg.load(tmp_path / "unet")
    assert run.model.in_channels == 4
    assert same(run.variables, variables)
    (pixels,) = run.card.origin["report"]
    assert pixels == "statistics of pixels: the range of the image's type as 0..1 (assumed, as the source states none)"
    if encoder == "resnet18":
        assert (run.name, run.model) == ("unet_resnet18", create_model("unet_resnet18", num_classes=3, in_channels=4))
        grey = jaxseg.load(tmp_path / "unet", "unet_resnet18", num_classes=3)
        assert grey.model == run.model  # the folder says how many channels
        with pytest.raises(BadInput, match="does not fit"):
            jaxseg.load(tmp_path / "unet", "unet_resnet18", in_channels=3)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (config("DPT"), "'DPT' of segmentation-models-pytorch is not here; there are: DeepLabV3"),
        (config("Unet", "resnet33"), "encoder 'resnet33'.*did you mean 'resnet"),
        (config("Unet", "resnest50"), "encoder 'resnest50'"),
        (config("DeepLabV3", "densenet121"), "'densenet121' is not here: it has no output stride of 8"),
        (config("Unet", "vgg16.tv_in1k"), "encoder 'vgg16.tv_in1k'"),
        (config("Linknet", "mit_b0"), "Linknet on encoder 'mit_b0' is not here"),
        (config("PSPNet", "tu-vgg11", encoder_depth=3), "PSPNet on encoder 'tu-vgg11' is not here"),
        (config("DeepLabV3", "vgg16"), "'vgg16' is not here: it has no output stride of 8"),
        (config("Unet", in_channels="all"), "in_channels is 'all', not a number of channels"),
        (config("Unet", activation="sigmoid"), "activation='sigmoid'"),
        (config("Unet", decoder_attention_type="cbam"), "decoder_attention_type='cbam'"),
        (config("Unet", aux_params={"classes": 0}), "aux_params is {'classes': 0}; there are classes of 1 and more"),
        (config("Unet", decoder_use_norm=False), "decoder_use_norm=False"),
        (config("Unet", decoder_channels="many"), "decoder_channels of Unet is 'many'"),
        (config("Unet", decoder_channels=[-1, 2]), "decoder_channels of Unet is"),
        (config("Unet", encoder_depth=4), "with encoder_depth=4 there are 4 of them"),
        (config("FPN", encoder_depth=4), "upsampling of FPN must be 2"),
        (config("UPerNet", encoder_depth=2), "encoder_depth is 2; there are 3, 4 and 5"),
        (config("Unet", classes="all"), "classes is 'all'"),
        (config("Unet", __class__="os.system"), "__class__='os.system' of Unet is not known here"),
        (config("FPN", decoder_merge_policy="cat"), "decoder_merge_policy='cat'"),
        (config("DeepLabV3", encoder_output_stride=4), "encoder_output_stride 4"),
        ({"_model_class": ["Unet"]}, "is not here"),
    ],
)
def test_what_is_not_here_is_refused_by_name(form, message):
    with pytest.raises(BadInput, match=message) as error:
        saved(form)
    assert "\n" not in str(error.value)


def test_a_damaged_configuration(tmp_path):
    for text in ("{", "[" * 100_000, "\x00", '{"_model_class": "Unet"'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(BadInput, match=r"config.json is damaged"):
            jaxseg.import_weights(tmp_path)


def test_each_network_finds_its_own_rules():
    """Also networks of one wrapper, whose decoders differ; an export for torch asks for these."""
    for name in ("unet_resnet34", "fpn_resnet50", "manet_resnet34", "unetplusplus_resnet34"):
        assert rules_of(create_model(name)) == dict(find(name).names)


FAMILIES = (
    *("resnet18", "resnext50_32x4d", "mobilenet_v2", "vgg11", "vgg11_bn", "mit_b0", "tu-resnet18", "tu-vgg11_bn"),
    *("tu-mobilenetv1_100", "tu-mobilenetv2_050", "tu-mobilenetv3_small_100", "tu-tf_mobilenetv3_small_100"),
    *("efficientnet-b0", "tu-tf_efficientnet_b0", "densenet121", "se_resnext50_32x4d", "tu-regnety_002"),
    *("tu-convnext_tiny", "tu-swin_tiny_patch4_window7_224", "tu-swinv2_tiny_window8_256", "tu-hrnet_w18"),
)


@pytest.mark.parametrize("encoder", FAMILIES)
def test_every_family_of_encoders_goes_back_as_it_came(encoder):
    network = saved(config("Unet", encoder))
    image = jax.ShapeDtypeStruct((1, 64, 64, network.model.in_channels), np.uint8)
    shapes = jax.eval_shape(network.model.init, jax.random.key(0), image)
    rng, few = np.random.default_rng(0), lambda n: n if n < 8 else 6 + n % 2
    ours = jax.tree.map(lambda leaf: rng.random(tuple(map(few, leaf.shape)), np.float32), shapes)
    theirs = restore(ours, network.rules)
    assert same(convert(theirs, ours, network.rules), ours)
    assert all(name.startswith(("encoder.", "decoder.", "segmentation_head.")) for name in theirs)
    assert restore(ours, rules_of(network.model, {"encoder": encoder})["smp"]).keys() == theirs.keys()
    if not encoder.startswith(("tu-resnet", "tu-vgg")):  # unless one says so these are the library's own
        assert restore(ours, rules_of(network.model)["smp"]).keys() == theirs.keys()


def test_a_swin_told_to_take_any_size_is_the_same_network():
    form = {"_model_class": "Unet", "encoder_name": "tu-swin_tiny_patch4_window7_224"}
    assert saved({**form, "strict_img_size": False}).model == saved(form).model
    with pytest.raises(BadInput, match="img_size=128 of Unet is not known here"):
        saved({**form, "img_size": 128})
    with pytest.raises(BadInput, match="strict_img_size=False of Unet is not known here"):
        saved({**form, "encoder_name": "resnet18", "strict_img_size": False})


def test_every_encoder_is_found_again():
    """By its backbone, whose weights then go out under the names that it has there; timm's twin gives its own up."""
    for name, encoder in ENCODERS.items():
        rules = names_of(encoder.build(standardize=UNIT))
        twin = ENCODERS.get(name.removeprefix("tu-"), encoder)
        assert rules == twin.rules, name
    assert names_of(resnet.resnet(18, width=8)) is None


@pytest.mark.parametrize(
    ("encoder", "statistics"),
    [
        ("tu-resnet34.a1_in1k", IMAGENET),
        ("tu-resnet34.ra4_e3600_r224_in1k", CENTRED),
        ("tu-mobilenetv3_large_100.miil_in21k", UNIT),
        ("tu-mobilenetv1_100", CENTRED),
        ("timm-mobilenetv3_small_100", CENTRED),
        ("vgg16", IMAGENET),
    ],
)
def test_statistics_belong_to_the_weights(encoder, statistics):
    assert saved(config("Unet", encoder)).model.backbone.standardize == statistics


PAIRS = (
    *((kind, "resnet18") for kind in OPTIONS),
    *(("Unet", encoder) for encoder in FAMILIES[1:]),
    *(("PAN", "tu-convnext_tiny"), ("PSPNet", "tu-convnext_tiny"), ("FPN", "tu-swin_tiny_patch4_window7_224")),
    *(("FPN", "mit_b0"), ("MAnet", "mit_b0"), ("PSPNet", "vgg11"), ("UnetPlusPlus", "vgg11"), ("PAN", "tu-resnet18")),
    *(
        ("Unet", "timm-efficientnet-b1"),
        ("Unet", "tu-efficientnet_b7"),
        ("Unet", "efficientnet-b3"),
        ("Unet", "senet154"),
    ),
    *(("Unet", "se_resnet50"), ("Unet", "tu-regnetx_080"), ("FPN", "densenet161"), ("PSPNet", "tu-regnety_002")),
)


@pytest.mark.parametrize(("kind", "encoder"), PAIRS, ids=map("-".join, PAIRS))
def test_every_pair_takes_every_weight(kind, encoder):
    """Shapes alone: theirs on torch's meta device, but for MiT, which reads numbers; ours abstract."""
    from tests.torchvision_cpu import torchvision_or_skip

    torchvision_or_skip()
    torch = pytest.importorskip("torch")
    smp = pytest.importorskip("segmentation_models_pytorch", reason="the oracle is segmentation-models-pytorch")
    with torch.device("cpu" if encoder.startswith("mit") else "meta"):
        theirs = getattr(smp, kind)(encoder, encoder_weights=None, classes=4)
    network = saved(json.loads(json.dumps({**theirs.config, "_model_class": kind})))
    image = jax.ShapeDtypeStruct((1, 128, 128, 3), np.uint8)
    target = jax.eval_shape(network.model.init, jax.random.key(0), image)
    state = {name: np.broadcast_to(np.float32(0), tuple(v.shape)) for name, v in theirs.state_dict().items()}
    convert(state, target, network.rules)


DEPTHS = {
    "Unet": {"decoder_channels": [64, 32, 16, 16], "decoder_attention_type": "scse"},
    "UnetPlusPlus": {"decoder_channels": [64, 32, 16, 16], "decoder_attention_type": "scse"},
    "MAnet": {"decoder_channels": [64, 32, 16, 16], "decoder_pab_channels": 16},
    **{kind: {} for kind in ("Linknet", "UPerNet", "Segformer", "PAN", "DeepLabV3", "DeepLabV3Plus")},
    "FPN": {"upsampling": 2},
    "PSPNet": {"upsampling": 16},
}


@pytest.mark.parametrize("kind", DEPTHS)
def test_a_map_less_an_image_head_and_four_channels_equal(kind):
    """Also the attention of the two U-Nets."""
    from tests.torchvision_cpu import torchvision_or_skip

    torchvision_or_skip()
    smp = pytest.importorskip("segmentation_models_pytorch", reason="the oracle is segmentation-models-pytorch")
    from tests.oracles.torch_side import assert_agree, random_image, randomise, state, to_torch, torch

    torch.manual_seed(0)
    options = {"encoder_depth": 4, "aux_params": {"classes": 7, "pooling": "max"}, "in_channels": 4, **DEPTHS[kind]}
    theirs = randomise(getattr(smp, kind)("resnet18", encoder_weights=None, classes=3, **options))
    network = saved(json.loads(json.dumps({**theirs.config, "_model_class": kind})))
    image = np.concatenate([random_image(128, 160), random_image(128, 160, seed=1)[..., :1]], axis=-1)
    target = jax.eval_shape(network.model.init, jax.random.key(0), image)
    variables = convert(state(theirs), target, network.rules)
    ours = jax.jit(network.model.apply)(variables, image)
    with torch.no_grad():
        masks, labels = theirs(to_torch(network.model.backbone.standardize(image)))
    assert_agree(ours["logits"], masks)
    np.testing.assert_allclose(ours["image_logits"], labels.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "encoder", "options"),
    [
        ("DeepLabV3", "resnet18", {"decoder_channels": 16}),
        ("Unet", "mobilenet_v2", {"classes": 1}),
        ("Unet", "vgg11_bn", {"decoder_channels": (16, 16, 8, 8, 4)}),
        ("Unet", "mit_b0", {"decoder_channels": (16, 16, 8, 8, 4)}),
        ("Unet", "tu-mobilenetv3_small_100", {"decoder_channels": (16, 16, 8, 8, 4)}),
        ("DeepLabV3Plus", "tu-resnet18", {"decoder_channels": 16}),
        ("Unet", "tu-regnety_002", {"decoder_channels": (16, 16, 8, 8, 4)}),
        ("DeepLabV3Plus", "tu-tf_efficientnet_b0", {"decoder_channels": 16}),
    ],
)
def test_a_saved_network_gives_its_logits_and_goes_back(tmp_path, kind, encoder, options):
    from tests.torchvision_cpu import torchvision_or_skip

    torchvision_or_skip()
    smp = pytest.importorskip("segmentation_models_pytorch", reason="the oracle is segmentation-models-pytorch")
    from tests.oracles.torch_side import assert_agree, random_image, randomise, to_torch, torch

    torch.manual_seed(0)
    theirs = randomise(getattr(smp, kind)(encoder, encoder_weights=None, **{"classes": 3, **options}))
    theirs.save_pretrained(tmp_path / "saved")
    run = jaxseg.import_weights(tmp_path / "saved")
    image = random_image(64, 64)
    ours = jax.jit(run.model.apply)(run.variables, image)["logits"]
    with torch.no_grad():
        reference = theirs(to_torch(run.model.backbone.standardize(image)))
    assert_agree(ours[..., -reference.shape[1] :], reference)
    if options.get("classes") != 1:  # a single output became two
        write(tmp_path / "back.pth", run.variables, rules_of(run.model, run.card.origin)["smp"])
        theirs.load_state_dict(torch.load(tmp_path / "back.pth", weights_only=True), strict=True)
        with torch.no_grad():
            assert torch.equal(theirs(to_torch(run.model.backbone.standardize(image))), reference)


@pytest.mark.parametrize(
    ("encoder", "parts"),
    [
        ("efficientnet-b0", ("encoder._conv_head", "encoder._bn1")),
        ("timm-efficientnet-b0", ("encoder.conv_head", "encoder.bn2")),
        ("resnet18", ()),
    ],
)
def test_what_the_library_keeps_and_never_uses_is_said(encoder, parts):
    model = saved({"_model_class": "Unet", "encoder_name": encoder, "classes": 3}).model
    assert kept_elsewhere(rules_of(model)["smp"]) == parts
