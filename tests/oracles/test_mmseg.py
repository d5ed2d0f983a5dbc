"""mmsegmentation's networks, module by module under the names of its state dicts; blocks are torchvision's."""

import jax
import numpy as np
import pytest

from jaxseg.conversion.rules import rules_of
from jaxseg.models import mmseg
from jaxseg.registry import create_model
from jaxseg.weights.names import convert, restore
from tests.oracles.torch_side import F, assert_agree, draw, random_image, state, to_torch, torch
from tests.torchvision_cpu import torchvision_or_skip

nn = torch.nn
CLASSES, WIDE = 5, 16


class ConvModule(nn.Module):
    def __init__(self, c_in, c_out, size, dilation=1):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, size, padding=dilation * (size // 2), dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Network(nn.Module):
    """Backbone and head; the auxiliary head is there for its names."""

    def __init__(self, backbone, head, channels=None):
        super().__init__()
        self.backbone, self.decode_head = backbone, head
        if channels:
            self.auxiliary_head = nn.Module()
            self.auxiliary_head.convs = nn.Sequential(ConvModule(channels, 256, 3))
            self.auxiliary_head.conv_seg = nn.Conv2d(256, CLASSES, 1)

    def forward(self, x):
        return resized(self.decode_head(self.backbone(x)), x)


def resized(x, like):
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


class ResNetV1c(nn.Module):
    def __init__(self):
        super().__init__()
        models = torchvision_or_skip().models.resnet
        trunk = models.ResNet(
            models.Bottleneck, (1, 1, 2, 1), replace_stride_with_dilation=[False, True, True], num_classes=1
        )
        layers = []
        for c_in, c_out, stride in ((3, 32, 2), (32, 32, 1), (32, 64, 1)):
            layers += [nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]
        self.stem, self.pool = nn.Sequential(*layers), nn.MaxPool2d(3, 2, 1)
        for k in range(1, 5):
            self.add_module(f"layer{k}", getattr(trunk, f"layer{k}"))

    def forward(self, x):
        return self.layer4(self.layer3(self.layer2(self.layer1(self.pool(self.stem(x))))))


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_seg = nn.Conv2d(WIDE, CLASSES, 1)


class FCNHead(Head):
    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(ConvModule(2048, WIDE, 3), ConvModule(WIDE, WIDE, 3))
        self.conv_cat = ConvModule(2048 + WIDE, WIDE, 3)

    def forward(self, x):
        return self.conv_seg(self.conv_cat(torch.cat([x, self.convs(x)], 1)))


class PSPHead(Head):
    def __init__(self):
        super().__init__()
        pools = [nn.Sequential(nn.AdaptiveAvgPool2d(n), ConvModule(2048, WIDE, 1)) for n in (1, 2, 3, 6)]
        self.psp_modules = nn.ModuleList(pools)
        self.bottleneck = ConvModule(2048 + 4 * WIDE, WIDE, 3)

    def forward(self, x):
        maps = [x, *(resized(pool(x), x) for pool in self.psp_modules)]
        return self.conv_seg(self.bottleneck(torch.cat(maps, 1)))


class ASPPHead(Head):
    def __init__(self):
        super().__init__()
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvModule(2048, WIDE, 1))
        rates = (1, 12, 24, 36)
        self.aspp_modules = nn.ModuleList(ConvModule(2048, WIDE, 1 if rate == 1 else 3, rate) for rate in rates)
        self.bottleneck = ConvModule(5 * WIDE, WIDE, 3)

    def forward(self, x):
        maps = [resized(self.image_pool(x), x), *(module(x) for module in self.aspp_modules)]
        return self.conv_seg(self.bottleneck(torch.cat(maps, 1)))


class Attention(nn.Module):
    def __init__(self, c, heads, ratio):
        super().__init__()
        self.attn = nn.MultiheadAttention(c, heads, batch_first=True)
        if ratio > 1:
            self.sr, self.norm = nn.Conv2d(c, c, ratio, ratio), nn.LayerNorm(c, eps=1e-6)

    def forward(self, x, shape):
        y = self.norm(to_rows(self.sr(to_map(x, shape)))) if hasattr(self, "sr") else x
        return x, self.attn(x, y, y)[0]


class Layer(nn.Module):
    def __init__(self, c, heads, ratio):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(c, eps=1e-6), nn.LayerNorm(c, eps=1e-6)
        self.attn, self.ffn = Attention(c, heads, ratio), nn.Module()
        convs = (nn.Conv2d(c, 4 * c, 1), nn.Conv2d(4 * c, 4 * c, 3, padding=1, groups=4 * c))
        self.ffn.layers = nn.Sequential(*convs, nn.GELU(), nn.Identity(), nn.Conv2d(4 * c, c, 1))

    def forward(self, x, shape):
        x = x + self.attn(self.norm1(x), shape)[1]
        return x + to_rows(self.ffn.layers(to_map(self.norm2(x), shape)))


def to_rows(x):
    return x.flatten(2).transpose(1, 2)


def to_map(x, shape):
    return x.transpose(1, 2).reshape(x.shape[0], -1, *shape)


class MixVisionTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, c_in = nn.ModuleList(), 3
        for c, heads, ratio in ((8, 1, 8), (8, 2, 4), (20, 5, 2), (16, 8, 1)):
            patches, first = nn.Module(), c_in == 3
            patches.projection = nn.Conv2d(c_in, c, 7 if first else 3, 4 if first else 2, 3 if first else 1)
            patches.norm = nn.LayerNorm(c, eps=1e-6)
            blocks = nn.ModuleList([Layer(c, heads, ratio), Layer(c, heads, ratio)])
            self.layers.append(nn.ModuleList([patches, blocks, nn.LayerNorm(c, eps=1e-6)]))
            c_in = c

    def forward(self, x):
        maps = []
        for patches, blocks, norm in self.layers:
            x = patches.projection(x)
            shape, rows = x.shape[2:], patches.norm(to_rows(x))
            for block in blocks:
                rows = block(rows, shape)
            x = to_map(norm(rows), shape)
            maps.append(x)
        return maps


class SegformerHead(Head):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(ConvModule(c, WIDE, 1) for c in (8, 8, 20, 16))
        self.fusion_conv = ConvModule(4 * WIDE, WIDE, 1)

    def forward(self, maps):
        levels = [resized(conv(x), maps[0]) for conv, x in zip(self.convs, maps, strict=True)]
        return self.conv_seg(self.fusion_conv(torch.cat(levels, 1)))


NETWORKS = {
    "fcn_resnet50_mmseg": (lambda: Network(ResNetV1c(), FCNHead(), 1024), mmseg.FCN_NAMES),
    "pspnet_resnet50_mmseg": (lambda: Network(ResNetV1c(), PSPHead(), 1024), mmseg.PSP_NAMES),
    "deeplabv3_resnet50_mmseg": (lambda: Network(ResNetV1c(), ASPPHead(), 1024), mmseg.ASPP_NAMES),
    "segformer_b0_mmseg": (lambda: Network(MixVisionTransformer(), SegformerHead()), mmseg.MLP_NAMES),
}


def ours(name):
    model = create_model(name, num_classes=CLASSES)
    small = {"depths": (1, 1, 2, 1)} if "resnet" in name else {"depths": (2,) * 4, "widths": (8, 8, 20, 16)}
    return model.clone(backbone=model.backbone.clone(**small), head=model.head.clone(features=WIDE))


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_by_mmsegmentations_names_give_its_logits_and_go_back(name):
    torch.manual_seed(0)
    build, rules = NETWORKS[name]
    theirs, model = draw(build()), ours(name)
    assert list(rules_of(model)) == ["mmseg"]
    assert rules_of(model)["mmseg"] == rules
    image = random_image(64, 72)
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), image))
    variables = convert(state(theirs), target, rules)
    with torch.no_grad():
        reference = theirs(to_torch(model.backbone.standardize(image)))
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], reference)
    back = restore(variables, rules)
    known = state(theirs)
    assert back.keys() == known.keys()
    for key, value in back.items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(value, known[key])
