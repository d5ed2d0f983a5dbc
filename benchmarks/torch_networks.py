"""The benchmarked networks in torch.nn, written from the same layer tables as ours: NCHW, raw RGB in, logits out."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Standardize(nn.Module):
    def __init__(self, mean, std, scale, flip=False):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.scale, self.flip = scale, flip

    def forward(self, x: Tensor) -> Tensor:
        x = x.flip(1) if self.flip else x
        return (x * self.scale - self.mean) / self.std


def conv_norm(c_in: int, c_out: int, size: int, **options) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, size, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


def conv_norm_relu(c_in: int, c_out: int, size: int, **options) -> nn.Sequential:
    return nn.Sequential(*conv_norm(c_in, c_out, size, **options), nn.ReLU(inplace=True))


class UNet(nn.Module):
    """Same-padded, BatchNorm, four poolings."""

    def __init__(self, classes: int = 21, width: int = 64, depth: int = 4):
        super().__init__()
        self.standardize = Standardize(*IMAGENET, 1 / 255)
        widths = [width << i for i in range(depth + 1)]

        def double(c_in: int, c_out: int) -> nn.Sequential:
            return nn.Sequential(conv_norm_relu(c_in, c_out, 3, padding=1), conv_norm_relu(c_out, c_out, 3, padding=1))

        self.down = nn.ModuleList(double(a, b) for a, b in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in widths[:-1])
        self.decode = nn.ModuleList(double(2 * c, c) for c in widths[:-1])
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x, skips = self.standardize(x), []
        for block in self.down[:-1]:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.down[-1](x)
        for skip, up, decode in zip(reversed(skips), reversed(self.up), reversed(self.decode), strict=True):
            x = decode(torch.cat([skip, up(x)], 1))
        return {"logits": self.classifier(x)}


class FCN8s(nn.Module):
    """VGG16 padded by 100, fc6 and fc7 as convolutions, two skips, fixed bilinear deconvolutions."""

    def __init__(self, classes: int = 21):
        super().__init__()
        self.standardize = Standardize((104.00699, 116.66877, 122.67892), (1.0, 1.0, 1.0), 1.0, flip=True)
        self.blocks, c_in = nn.ModuleList(), 3
        for convs, c in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
            layers = []
            for _ in range(convs):
                layers += [nn.Conv2d(c_in, c, 3, padding=100 if c_in == 3 else 1), nn.ReLU(inplace=True)]
                c_in = c
            self.blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=True)))
        relu, drop = nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.classifier = nn.Sequential(nn.Conv2d(512, 4096, 7), relu, drop, nn.Conv2d(4096, 4096, 1), relu, drop)
        self.score_fr = nn.Conv2d(4096, classes, 1)
        self.score_pool4, self.score_pool3 = nn.Conv2d(512, classes, 1), nn.Conv2d(256, classes, 1)
        for size in (4, 16):
            line = 1 - (torch.arange(size) - (size - 1) / 2).abs() / (size // 2)
            kernel = (line[:, None] * line).expand(classes, 1, size, size).contiguous()
            self.register_buffer(f"bilinear{size}", kernel, persistent=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h, w = x.shape[2:]
        x, pools = self.standardize(x), []
        for block in self.blocks:
            x = block(x)
            pools.append(x)
        x = self.upsample(self.score_fr(self.classifier(x)), 2)
        x = x + self.score_pool4(pools[3])[:, :, 5 : 5 + x.shape[2], 5 : 5 + x.shape[3]]
        x = self.upsample(x, 2)
        x = x + self.score_pool3(pools[2])[:, :, 9 : 9 + x.shape[2], 9 : 9 + x.shape[3]]
        return {"logits": self.upsample(x, 8)[:, :, 31 : 31 + h, 31 : 31 + w]}

    def upsample(self, x: Tensor, stride: int) -> Tensor:
        kernel = self.bilinear4 if stride == 2 else self.bilinear16
        return F.conv_transpose2d(x, kernel, stride=stride, groups=x.shape[1])


class Bottleneck(nn.Module):
    def __init__(self, c_in: int, c: int, stride: int, dilation: int):
        super().__init__()
        self.body = nn.Sequential(
            conv_norm_relu(c_in, c, 1),
            conv_norm_relu(c, c, 3, stride=stride, padding=dilation, dilation=dilation),
            conv_norm(c, 4 * c, 1),
        )
        same = stride == 1 and c_in == 4 * c
        self.shortcut = nn.Identity() if same else conv_norm(c_in, 4 * c, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class FCNResNet50(nn.Module):
    """ResNet-50 of output stride 8, a head on the last stage and one on the one before."""

    def __init__(self, classes: int = 21):
        super().__init__()
        self.standardize = Standardize(*IMAGENET, 1 / 255)
        self.stem = nn.Sequential(conv_norm_relu(3, 64, 7, stride=2, padding=3), nn.MaxPool2d(3, 2, 1))
        stages, c_in = [], 64
        for blocks, c, stride, first, dilation in (
            (3, 64, 1, 1, 1),
            (4, 128, 2, 1, 1),
            (6, 256, 1, 1, 2),
            (3, 512, 1, 2, 4),
        ):
            layers = []
            for i in range(blocks):
                layers.append(Bottleneck(c_in, c, stride if i == 0 else 1, first if i == 0 else dilation))
                c_in = 4 * c
            stages.append(nn.Sequential(*layers))
        self.trunk, self.last = nn.Sequential(*stages[:3]), stages[3]

        def head(c: int) -> nn.Sequential:
            return nn.Sequential(
                conv_norm_relu(c, c // 4, 3, padding=1), nn.Dropout(0.1), nn.Conv2d(c // 4, classes, 1)
            )

        self.head, self.aux = head(2048), head(1024)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        size = x.shape[2:]
        c4 = self.trunk(self.stem(self.standardize(x)))
        scores = {"logits": self.head(self.last(c4))}
        if self.training:
            scores["aux_logits"] = self.aux(c4)
        return {k: F.interpolate(s, size=size, mode="bilinear", align_corners=False) for k, s in scores.items()}


def norm_act(c: int, relu: bool) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(c, eps=1e-3), nn.ReLU() if relu else nn.PReLU(c))


class ENetBlock(nn.Module):
    """Reduce, main convolution, expand; ``down`` and ``up`` replace the main path's identity."""

    def __init__(self, c_in: int, c: int, main: nn.Module, *, dropout: float, relu: bool = False, kind: str = "same"):
        super().__init__()
        inner = c // 4
        size = 2 if kind == "down" else 1
        self.body = nn.Sequential(
            nn.Conv2d(c_in, inner, size, stride=size, bias=False),
            norm_act(inner, relu),
            main,
            norm_act(inner, relu),
            nn.Conv2d(inner, c, 1, bias=False),
            nn.BatchNorm2d(c, eps=1e-3),
            nn.Dropout2d(dropout),
        )
        self.kind, self.extra = kind, c - c_in
        if kind == "up":
            self.main = nn.Sequential(nn.Conv2d(c_in, c, 1, bias=False), nn.BatchNorm2d(c, eps=1e-3))
        self.act = nn.ReLU() if relu else nn.PReLU(c)

    def forward(self, x: Tensor, indices: Tensor | None = None):
        y = self.body(x)
        if self.kind == "down":
            x, found = F.max_pool2d(x, 2, return_indices=True)
            return self.act(y + F.pad(x, (0, 0, 0, 0, 0, self.extra))), found
        if self.kind == "up":
            x = F.max_unpool2d(self.main(x), indices, 2)
        return self.act(y + x)


class ENet(nn.Module):
    """Initial block, three encoder stages, two decoder stages."""

    def __init__(self, classes: int = 11):
        super().__init__()
        self.standardize = Standardize(*IMAGENET, 1 / 255)
        self.initial, self.initial_act = nn.Conv2d(3, 13, 3, stride=2, padding=1), norm_act(16, False)

        def plain(c: int, dropout: float, main: nn.Module | None = None, relu: bool = False) -> ENetBlock:
            return ENetBlock(c, c, main or nn.Conv2d(c // 4, c // 4, 3, padding=1), dropout=dropout, relu=relu)

        def dilated(rate: int) -> ENetBlock:
            return plain(128, 0.1, nn.Conv2d(32, 32, 3, padding=rate, dilation=rate))

        def asymmetric() -> ENetBlock:
            row, column = (
                nn.Conv2d(32, 32, (1, 5), padding=(0, 2), bias=False),
                nn.Conv2d(32, 32, (5, 1), padding=(2, 0)),
            )
            return plain(128, 0.1, nn.Sequential(row, column))

        self.down1 = ENetBlock(16, 64, nn.Conv2d(16, 16, 3, padding=1), dropout=0.01, kind="down")
        self.stage1 = nn.Sequential(*(plain(64, 0.01) for _ in range(4)))
        self.down2 = ENetBlock(64, 128, nn.Conv2d(32, 32, 3, padding=1), dropout=0.1, kind="down")
        blocks = []
        for _ in range(2):
            blocks += [plain(128, 0.1), dilated(2), asymmetric(), dilated(4)]
            blocks += [plain(128, 0.1), dilated(8), asymmetric(), dilated(16)]
        self.stage23 = nn.Sequential(*blocks)

        def up(c_in: int, c: int) -> ENetBlock:
            main = nn.ConvTranspose2d(c // 4, c // 4, 3, stride=2, padding=1, output_padding=1)
            return ENetBlock(c_in, c, main, dropout=0.0, relu=True, kind="up")

        self.up4 = up(128, 64)
        self.stage4 = nn.Sequential(plain(64, 0.0, relu=True), plain(64, 0.0, relu=True))
        self.up5, self.stage5 = up(64, 16), plain(16, 0.0, relu=True)
        self.full = nn.ConvTranspose2d(16, classes, 2, stride=2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.standardize(x)
        x = self.initial_act(torch.cat([self.initial(x), F.max_pool2d(x, 2)], 1))
        x, indices1 = self.down1(x)
        x, indices2 = self.down2(self.stage1(x))
        x = self.stage4(self.up4(self.stage23(x), indices2))
        return {"logits": self.full(self.stage5(self.up5(x, indices1)))}
