"""UPerNet against transformers."""

import jax
import numpy as np
import pytest

from jaxseg.backbones.resnet import ResNet
from jaxseg.layers.conv import Conv
from jaxseg.layers.conv_norm import ConvNorm
from jaxseg.models.semantic import upernet
from jaxseg.registry import find
from jaxseg.weights.names import convert
from tests.oracles.torch_side import F, assert_agree, random_image, randomise, state, to_torch, torch
from tests.torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
transformers = pytest.importorskip("transformers", reason="the oracle is transformers")


def reference(depths, widths, **options):
    trunk = transformers.ResNetConfig(
        embedding_size=widths[0] // 4,
        hidden_sizes=list(widths),
        depths=list(depths),
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return transformers.UperNetForSemanticSegmentation(transformers.UperNetConfig(backbone_config=trunk, **options))


def test_equals_transformers():
    """Both heads."""
    depths = (1, 2, 1, 1)
    torch.manual_seed(0)
    theirs = randomise(reference(depths, (32, 64, 128, 256), hidden_size=16, auxiliary_channels=12, num_labels=5))
    backbone = ResNet(depths=depths, width=8)
    model = upernet.UPerNet(backbone=backbone, num_classes=5, features=16, aux_features=12)
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64)))
    variables = convert(state(theirs), target, upernet.TRANSFORMERS_NAMES)

    def both(variables, image):
        def part(name):
            return {collection: tree[name] for collection, tree in variables.items() if name in tree}

        c4 = backbone.apply(part("backbone"), image, train=False)["c4"]
        aux = jax.nn.relu(ConvNorm(12).apply(part("aux_head"), c4, train=False))
        return model.apply(variables, image)["logits"], Conv(5, 1).apply(part("aux_classifier"), aux)

    call = jax.jit(both)
    for size in [(64, 64), (45, 67)]:
        image = random_image(*size)
        x = to_torch(backbone.standardize(image))
        with torch.no_grad():
            expected = theirs(x).logits
            expected_aux = theirs.auxiliary_head(theirs.backbone(x).feature_maps)
        logits, aux = call(variables, image)
        assert_agree(logits, expected)
        assert_agree(aux, expected_aux)
        assert F.interpolate(expected_aux, size=size).shape == expected.shape


def test_the_registered_network_takes_every_weight():
    with torch.device("meta"):
        theirs = reference((3, 4, 6, 3), (256, 512, 1024, 2048), num_labels=150)
    entry = find("upernet_resnet50")
    target = jax.eval_shape(lambda: entry.build().init(jax.random.key(0), random_image(64, 64)))
    empty = {key: np.broadcast_to(np.float32(0), tuple(value.shape)) for key, value in theirs.state_dict().items()}
    convert(empty, target, entry.names["transformers"])
    assert entry.params == sum(p.numel() for p in theirs.parameters())
