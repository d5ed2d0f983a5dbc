"""PSPNet against the layer table of the authors' PyTorch code, by the names of its state dict."""

import jax
import numpy as np

from jaxseg.backbones.resnet import ResNet
from jaxseg.layers.conv import Conv
from jaxseg.layers.conv_norm import ConvNorm
from jaxseg.models.semantic import pspnet
from jaxseg.weights.names import convert
from tests.oracles import semseg
from tests.oracles.torch_side import F, assert_agree, random_image, randomise, state, to_torch, torch


def test_equals_the_layer_table():
    """Both heads, at sizes 8 n + 1, which the authors' code asks for, and at another."""
    depths = (1, 1, 2, 2)
    torch.manual_seed(0)
    theirs = randomise(semseg.PSPNet(5, 8, depths, 16))
    backbone = ResNet(depths=depths, width=8, stem="3x3x3", output_stride=8, multi_grid=(1, 1))
    model = pspnet.PSPNet(backbone=backbone, num_classes=5, features=16)
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(33, 33)))
    variables = convert(state(theirs), target, pspnet.SEMSEG_NAMES)

    def both(variables, image):
        def part(name):
            return {collection: tree[name] for collection, tree in variables.items() if name in tree}

        c4 = backbone.apply(part("backbone"), image, train=False)["c4"]
        aux = jax.nn.relu(ConvNorm(8).apply(part("aux_head"), c4, train=False))
        return model.apply(variables, image)["logits"], Conv(5, 1).apply(part("aux_head_classifier"), aux)

    call = jax.jit(both)
    for size in [(65, 73), (50, 37)]:
        image = random_image(*size)
        with torch.no_grad():
            reference, reference_aux = theirs(to_torch(backbone.standardize(image)))
        logits, aux = call(variables, image)
        assert_agree(logits, reference)
        aux = F.interpolate(to_torch(aux), size=size, mode="bilinear", align_corners=True)
        assert_agree(aux.permute(0, 2, 3, 1).numpy(), reference_aux)


def test_the_registered_network_takes_every_weight():
    with torch.device("meta"):
        theirs = semseg.PSPNet(150, 64, (3, 4, 6, 3), 512)
    target = jax.eval_shape(lambda: pspnet.pspnet_resnet50().init(jax.random.key(0), random_image(33, 33)))
    empty = {key: np.broadcast_to(np.float32(0), tuple(value.shape)) for key, value in theirs.state_dict().items()}
    convert(empty, target, pspnet.SEMSEG_NAMES)
