"""PSPNet against the layer table of the authors' PyTorch code, by the names of its state dict."""

import jax
import numpy as np

from jaxseg.backbones.resnet import ResNet
from jaxseg.layers.conv import Conv
from jaxseg.layers.conv_norm import ConvNorm
from jaxseg.models.semantic import pspnet
from jaxseg.weights.names import convert
from tests.oracles.torch_side import F, assert_agree, random_image, randomise, state, to_torch, torch
from tests.torchvision_cpu import torchvision_or_skip

nn = torch.nn


def pair(c_in, c_out, size, **options):
    return [nn.Conv2d(c_in, c_out, size, bias=False, **options), nn.BatchNorm2d(c_out), nn.ReLU()]


class Reference(nn.Module):
    """The layer table; ``width`` is 64 and ``depths`` (3, 4, 6, 3) in the published one."""

    def __init__(self, classes, width, depths, features):
        super().__init__()
        models = torchvision_or_skip().models.resnet
        trunk = models.ResNet(models.Bottleneck, (1, 1, 1, 1))
        trunk.inplanes = 2 * width
        stem = [*pair(3, width, 3, stride=2, padding=1), *pair(width, width, 3, padding=1)]
        self.layer0 = nn.Sequential(*stem, *pair(width, 2 * width, 3, padding=1), nn.MaxPool2d(3, 2, 1))
        for i, (depth, stride) in enumerate(zip(depths, (1, 2, 1, 1), strict=True)):
            layer = trunk._make_layer(models.Bottleneck, width << i, depth, stride)
            rate = (1, 1, 2, 4)[i]
            for block in layer:
                block.conv2.dilation = block.conv2.padding = (rate, rate)
            self.add_module(f"layer{i + 1}", layer)
        wide = 32 * width
        self.ppm = nn.Module()
        self.ppm.features = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(n), *pair(wide, wide // 4, 1)) for n in (1, 2, 3, 6)
        )
        self.cls = nn.Sequential(
            *pair(2 * wide, features, 3, padding=1), nn.Dropout2d(), nn.Conv2d(features, classes, 1)
        )
        self.aux = nn.Sequential(
            *pair(wide // 2, features // 2, 3, padding=1), nn.Dropout2d(), nn.Conv2d(features // 2, classes, 1)
        )

    def forward(self, x):
        def resized(y, size):
            return F.interpolate(y, size=size, mode="bilinear", align_corners=True)

        size = x.shape[2:]
        c4 = self.layer3(self.layer2(self.layer1(self.layer0(x))))
        c5 = self.layer4(c4)
        branches = [resized(branch(c5), c5.shape[2:]) for branch in self.ppm.features]
        return resized(self.cls(torch.cat([c5, *branches], 1)), size), resized(self.aux(c4), size)


def test_equals_the_layer_table():
    """Both heads, at sizes 8 n + 1, which the authors' code asks for, and at another."""
    depths = (1, 1, 2, 2)
    torch.manual_seed(0)
    theirs = randomise(Reference(5, 8, depths, 16))
    backbone = ResNet(depths=depths, width=8, stem="3x3x3", output_stride=8, dilate_first=True)
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
        theirs = Reference(150, 64, (3, 4, 6, 3), 512)
    target = jax.eval_shape(lambda: pspnet.pspnet_resnet50().init(jax.random.key(0), random_image(33, 33)))
    empty = {key: np.broadcast_to(np.float32(0), tuple(value.shape)) for key, value in theirs.state_dict().items()}
    convert(empty, target, pspnet.SEMSEG_NAMES)
