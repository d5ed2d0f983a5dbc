"""More of the benchmarked networks in torch.nn, from the same layer tables as ours: VGG's descendants, and ESPNet."""

from functools import reduce
from itertools import accumulate, pairwise
from operator import add

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch_networks import IMAGENET, Standardize, conv_norm_relu

VGG16 = (2, 2, 3, 3, 3)
WIDTHS = (64, 128, 256, 512, 512)
CAFFE_BGR = (104.00699, 116.66877, 122.67892)


def caffe() -> Standardize:
    return Standardize(CAFFE_BGR, (1.0, 1.0, 1.0), 1.0, flip=True)


def biased(conv: nn.Module, c: int) -> nn.Sequential:
    """A convolution with bias, BatchNorm and ReLU."""
    return nn.Sequential(conv, nn.BatchNorm2d(c), nn.ReLU(inplace=True))


class SegNet(nn.Module):
    """VGG16's convolutions and their mirror image, each with BatchNorm and ReLU, joined by the pools' indices."""

    def __init__(self, classes: int = 11):
        super().__init__()
        self.down, self.up, c_in = nn.ModuleList(), nn.ModuleList(), 3
        for convs, c in zip(VGG16, WIDTHS, strict=True):
            sizes = [c_in, *[c] * convs]
            self.down.append(nn.Sequential(*(self.layer(a, b) for a, b in pairwise(sizes))))
            c_in = c
        for level in range(4, -1, -1):
            c, after = WIDTHS[level], WIDTHS[level - 1]
            layers = [self.layer(c, c) for _ in range(VGG16[level] - 1)]
            last = self.layer(c, after) if level else nn.Conv2d(c, classes, 3, padding=1)
            self.up.append(nn.Sequential(*layers, last))

    def layer(self, c_in: int, c: int) -> nn.Sequential:
        return biased(nn.Conv2d(c_in, c, 3, padding=1), c)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x, pools = x.flip(1), []
        for block in self.down:
            x = block(x)
            size = x.shape[2:]
            x, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            pools.append((size, indices))
        for block, (size, indices) in zip(self.up, reversed(pools), strict=True):
            x = block(F.max_unpool2d(x, indices, 2, output_size=size))
        return {"logits": x}


class SegNetBasic(nn.Module):
    """Four 7x7 encoders behind local response normalisation, four 7x7 decoders without ReLU behind unpooling."""

    def __init__(self, classes: int = 11, width: int = 64):
        super().__init__()
        sizes = (3, width, width, width)
        self.down = nn.ModuleList(biased(nn.Conv2d(c, width, 7, padding=3), width) for c in sizes)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 7, padding=3), nn.BatchNorm2d(width)) for _ in sizes
        )
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x, pools = F.local_response_norm(x.flip(1), size=5, alpha=1e-4, beta=0.75, k=1.0), []
        for block in self.down:
            x = block(x)
            size = x.shape[2:]
            x, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            pools.append((size, indices))
        for block, (size, indices) in zip(self.up, reversed(pools), strict=True):
            x = block(F.max_unpool2d(x, indices, 2, output_size=size))
        return {"logits": self.classifier(x)}


class DeconvNet(nn.Module):
    """VGG16 down to a 7x7 window of 4096 features and its mirror image of transposed convolutions."""

    def __init__(self, classes: int = 21):
        super().__init__()
        self.standardize = caffe()
        self.down, self.up, c_in = nn.ModuleList(), nn.ModuleList(), 3
        for convs, c in zip(VGG16, WIDTHS, strict=True):
            sizes = [c_in, *[c] * convs]
            layers = (biased(nn.Conv2d(a, b, 3, padding=1), b) for a, b in pairwise(sizes))
            self.down.append(nn.Sequential(*layers))
            c_in = c
        self.fc = nn.Sequential(
            biased(nn.Conv2d(512, 4096, 7), 4096),
            biased(nn.Conv2d(4096, 4096, 1), 4096),
            biased(nn.ConvTranspose2d(4096, 512, 7), 512),
        )
        for level in range(4, -1, -1):
            c, after = WIDTHS[level], WIDTHS[max(level - 1, 0)]
            sizes = [*[c] * VGG16[level], after]
            layers = (biased(nn.ConvTranspose2d(a, b, 3, padding=1), b) for a, b in pairwise(sizes))
            self.up.append(nn.Sequential(*layers))
        self.score = nn.Conv2d(64, classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x, pools = self.standardize(x), []
        for block in self.down:
            x = block(x)
            size = x.shape[2:]
            x, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            pools.append((size, indices))
        x = self.fc(x)
        for block, (size, indices) in zip(self.up, reversed(pools), strict=True):
            x = block(F.max_unpool2d(x, indices, 2, output_size=size))
        return {"logits": self.score(x)}


def fov(c: int, rate: int) -> nn.Sequential:
    """fc6 as a dilated 3x3 window, and fc7."""
    return nn.Sequential(
        nn.Conv2d(512, c, 3, padding=rate, dilation=rate),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Conv2d(c, c, 1),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
    )


def anchored(x: Tensor, size: torch.Size) -> Tensor:
    """Cell i on pixel 8 i; beyond the last cell its value."""
    more = [-(-(n - 1) // 8) + 1 - m for n, m in zip(size, x.shape[2:], strict=True)]
    x = F.pad(x, (0, more[1], 0, more[0]), mode="replicate")
    whole = [8 * (n - 1) + 1 for n in x.shape[2:]]
    return F.interpolate(x, size=whole, mode="bilinear", align_corners=True)[:, :, : size[0], : size[1]]


class DeepLabTrunk(nn.Sequential):
    """VGG16 with 3x3 pools, the last two at stride 1, and block 5 with holes of two."""

    def __init__(self):
        layers: list[nn.Module] = [caffe()]
        c_in = 3
        for block, (convs, c) in enumerate(zip(VGG16, WIDTHS, strict=True)):
            hole = 2 if block == 4 else 1
            for _ in range(convs):
                layers += [nn.Conv2d(c_in, c, 3, padding=hole, dilation=hole), nn.ReLU(inplace=True)]
                c_in = c
            layers.append(nn.MaxPool2d(3, 2 if block < 3 else 1, 1, ceil_mode=True))
        super().__init__(*layers)


class DeepLabV1(nn.Module):
    """LargeFOV: one window of rate 12 behind a smoothed pool 5."""

    def __init__(self, classes: int = 21):
        super().__init__()
        self.trunk, self.fov = DeepLabTrunk(), fov(1024, 12)
        self.classifier = nn.Conv2d(1024, classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = F.avg_pool2d(self.trunk(x), 3, stride=1, padding=1)
        return {"logits": anchored(self.classifier(self.fov(y)), x.shape[2:])}


class DeepLabV2(nn.Module):
    """ASPP-L on VGG16: the scores of four windows, summed."""

    def __init__(self, classes: int = 21):
        super().__init__()
        self.trunk = DeepLabTrunk()
        self.branches = nn.ModuleList(
            nn.Sequential(fov(1024, rate), nn.Conv2d(1024, classes, 1)) for rate in (6, 12, 18, 24)
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.trunk(x)
        return {"logits": anchored(reduce(add, [branch(y) for branch in self.branches]), x.shape[2:])}


class FrontEnd(nn.Module):
    """VGG16 without padding on the mirrored image: pools 4 and 5 left out, block 5 and fc6 dilated."""

    MARGIN = 186

    def __init__(self, classes: int = 21):
        super().__init__()
        layers: list[nn.Module] = [Standardize((102.93, 111.36, 116.52), (1.0, 1.0, 1.0), 1.0, flip=True)]
        c_in = 3
        for block, (convs, c) in enumerate(zip(VGG16, WIDTHS, strict=True)):
            for _ in range(convs):
                layers += [nn.Conv2d(c_in, c, 3, dilation=2 if block == 4 else 1), nn.ReLU(inplace=True)]
                c_in = c
            layers += [nn.MaxPool2d(2)] if block < 3 else []
        for conv in (nn.Conv2d(512, 4096, 7, dilation=4), nn.Conv2d(4096, 4096, 1)):
            layers += [conv, nn.ReLU(inplace=True), nn.Dropout(0.5)]
        self.body = nn.Sequential(*layers, nn.Conv2d(4096, classes, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        ends = [8 * ((n - 1) // 8 + 2) - n + self.MARGIN for n in x.shape[2:]]
        y = self.body(F.pad(x, (self.MARGIN, ends[1], self.MARGIN, ends[0]), mode="reflect"))
        return {"logits": anchored(y, x.shape[2:])}


def norm_act(c: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(c, eps=1e-3), nn.PReLU(c))


class Pyramid(nn.Module):
    """ESPNet's module: reduce, five dilations, sums of the last four."""

    def __init__(self, c_in: int, c: int, size: int = 1, stride: int = 1):
        super().__init__()
        n = c // 5
        self.reduce = nn.Conv2d(c_in, n, size, stride=stride, padding=size // 2, bias=False)
        self.branches = nn.ModuleList(
            nn.Conv2d(n, c - 4 * n if d == 1 else n, 3, padding=d, dilation=d, bias=False) for d in (1, 2, 4, 8, 16)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        first, *others = (branch(x) for branch in self.branches)
        return torch.cat([first, *accumulate(others, add)], 1)


class Residual(nn.Module):
    """A module of as many channels in as out, its input added."""

    def __init__(self, c: int):
        super().__init__()
        self.pyramid, self.act = Pyramid(c, c), norm_act(c)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.pyramid(x))


class ESPNet(nn.Module):
    """Encoder of ESP modules (2 at 1/4, 8 at 1/8 behind those that halve), light decoder; sides of a multiple of 8."""

    def __init__(self, classes: int = 12, p: int = 2, q: int = 8):
        super().__init__()
        std = (255 * 72.12571015, 255 * 72.69074534, 255 * 69.90434816)
        self.standardize = Standardize((110.33102643, 108.40886315, 105.03319369), std, 1.0, flip=True)
        self.level1 = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), norm_act(16))
        self.norm2 = norm_act(19)
        self.down2 = nn.Sequential(Pyramid(19, 64, 3, 2), norm_act(64))
        self.level2 = nn.Sequential(*(Residual(64) for _ in range(p)))
        self.norm4 = norm_act(131)
        self.down3 = nn.Sequential(Pyramid(131, 128, 3, 2), norm_act(128))
        self.level3 = nn.Sequential(*(Residual(128) for _ in range(q)))
        self.score3 = nn.Sequential(norm_act(256), nn.Conv2d(256, classes, 1, bias=False))

        def up(c: int) -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(c, c, 2, stride=2, bias=False)

        self.up3 = nn.Sequential(nn.BatchNorm2d(classes, eps=1e-3), up(classes))
        self.score2 = nn.Conv2d(131, classes, 1, bias=False)
        self.merge2 = nn.Sequential(norm_act(2 * classes), Pyramid(2 * classes, classes), norm_act(classes))
        self.up2 = nn.Sequential(up(classes), norm_act(classes))
        self.merge1 = nn.Sequential(nn.Conv2d(classes + 19, classes, 3, padding=1, bias=False), norm_act(classes))
        self.up1 = up(classes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.standardize(x)
        small = F.avg_pool2d(x, 3, stride=2, padding=1)
        smaller = F.avg_pool2d(small, 3, stride=2, padding=1)
        half = self.norm2(torch.cat([self.level1(x), small], 1))
        first = self.down2(half)
        x = self.level2(first)
        quarter = self.norm4(torch.cat([x, first, smaller], 1))
        first = self.down3(quarter)
        x = self.level3(first)
        x = self.up3(self.score3(torch.cat([first, x], 1)))
        x = self.up2(self.merge2(torch.cat([self.score2(quarter), x], 1)))
        return {"logits": self.up1(self.merge1(torch.cat([x, half], 1)))}


class AttentionGate(nn.Module):
    """Additive attention on the grid of the gating signal, enlarged; two normalised 1x1 convolutions behind it."""

    def __init__(self, c: int, gating: int):
        super().__init__()
        self.theta, self.phi = nn.Conv2d(c, c, 2, stride=2, bias=False), nn.Conv2d(gating, c, 1)
        self.psi = nn.Conv2d(c, 1, 1)
        self.transform = nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c))
        self.combine = nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c))

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        weight = torch.sigmoid(self.psi(F.relu(self.theta(x) + self.phi(g))))
        gated = x * F.interpolate(weight, size=x.shape[2:], mode="bilinear", align_corners=False)
        return F.relu(self.combine(self.transform(gated)))


class AttentionUNet(nn.Module):
    """Gates on the three coarser skips, scores from every level."""

    def __init__(self, classes: int = 21, width: int = 16):
        super().__init__()
        self.standardize = Standardize(*IMAGENET, 1 / 255)
        widths = [width << i for i in range(5)]

        def double(c_in: int, c_out: int) -> nn.Sequential:
            return nn.Sequential(conv_norm_relu(c_in, c_out, 3, padding=1), conv_norm_relu(c_out, c_out, 3, padding=1))

        self.down = nn.ModuleList(double(a, b) for a, b in zip([3, *widths], widths, strict=False))
        self.gating = conv_norm_relu(widths[4], widths[4], 1)
        self.gates = nn.ModuleList(AttentionGate(c, 2 * c) for c in widths[1:4])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 4, stride=2, padding=1) for c in widths[:4])
        self.decode = nn.ModuleList(double(2 * c, c) for c in widths[:4])
        self.scores = nn.ModuleList(nn.Conv2d(c, classes, 1) for c in widths[:4])
        self.classifier = nn.Conv2d(4 * classes, classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        size, x, skips = x.shape[2:], self.standardize(x), []
        for block in self.down[:4]:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.down[4](x)
        g, scores = self.gating(x), []
        for level in (3, 2, 1, 0):
            skip = self.gates[level - 1](skips[level], g) if level else skips[0]
            x = g = self.decode[level](torch.cat([skip, self.up[level](x)], 1))
            scores.append(F.interpolate(self.scores[level](x), size=size, mode="bilinear", align_corners=False))
        return {"logits": self.classifier(torch.cat(scores, 1))}
