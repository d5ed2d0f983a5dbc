"""HRNet with OCR of its authors (github.com/HRNet/HRNet-Semantic-Segmentation), layer by layer and by the names of its
state dicts; the branches are timm's, enlarged as the authors do it."""

from itertools import pairwise

import pytest

from tests.oracles.torch_side import F, torch
from tests.torchvision_cpu import torchvision_or_skip

nn = torch.nn


def pair(c_in, c_out, size=1, **options):
    return [nn.Conv2d(c_in, c_out, size, **options), nn.BatchNorm2d(c_out), nn.ReLU()]


def nested(*features):
    """1x1 convolutions, each followed by a normalisation and a ReLU in a sequence of their own."""
    layers = []
    for c_in, c_out in pairwise(features):
        conv, *rest = pair(c_in, c_out, bias=False)
        layers += [conv, nn.Sequential(*rest)]
    return nn.Sequential(*layers)


def enlarged(x, size):
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


class HRNetOCR(nn.Module):
    """Logits at the size of the image, of which both sides are multiples of 32. Published: 512 and 256 features."""

    def __init__(self, width, classes, features=512, key_features=256):
        super().__init__()
        torchvision_or_skip()  # timm imports it
        timm = pytest.importorskip("timm", reason="the branches are timm's")
        self.model = timm.create_model(f"hrnet_w{width}", features_only=True, feature_location="", pretrained=False)
        for layer in self.model.modules():
            if isinstance(layer, nn.Upsample):
                layer.mode, layer.align_corners = "bilinear", True
        total = 15 * width
        self.conv3x3_ocr = nn.Sequential(*pair(total, features, 3, padding=1))
        block = nn.Module()
        block.f_pixel = nested(features, key_features, key_features)
        block.f_object = nested(features, key_features, key_features)
        block.f_down = nested(features, key_features)
        block.f_up = nested(key_features, features)
        self.ocr_distri_head = nn.Module()
        self.ocr_distri_head.object_context_block = block
        self.ocr_distri_head.conv_bn_dropout = nn.Sequential(*nested(2 * features, features), nn.Dropout2d(0.05))
        self.cls_head = nn.Conv2d(features, classes, 1)
        self.aux_head = nn.Sequential(*pair(total, total), nn.Conv2d(total, classes, 1))

    def forward(self, image):
        maps = self.model(image)[1:]
        x = torch.cat([enlarged(m, maps[0].shape[2:]) for m in maps], 1)
        belongs = self.aux_head(x).flatten(2).softmax(2)
        x = self.conv3x3_ocr(x)
        block = self.ocr_distri_head.object_context_block
        regions = torch.einsum("bkn,bcn->bck", belongs, x.flatten(2))[..., None]
        query, key = block.f_pixel(x).flatten(2), block.f_object(regions).flatten(2)
        alike = torch.einsum("bcn,bck->bnk", query, key) * query.shape[1] ** -0.5
        context = torch.einsum("bnk,bck->bcn", alike.softmax(2), block.f_down(regions).flatten(2))
        context = block.f_up(context.unflatten(2, tuple(x.shape[2:])))
        x = self.ocr_distri_head.conv_bn_dropout(torch.cat([context, x], 1))
        return enlarged(self.cls_head(x), image.shape[2:])
