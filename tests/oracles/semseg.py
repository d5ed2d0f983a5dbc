"""The networks of hszhao/semseg, layer by layer and by the names of its state dicts; blocks are torchvision's."""

from tests.oracles.torch_side import F, torch
from tests.torchvision_cpu import torchvision_or_skip

nn = torch.nn


def pair(c_in, c_out, size, **options):
    return [nn.Conv2d(c_in, c_out, size, bias=False, **options), nn.BatchNorm2d(c_out), nn.ReLU()]


class PSPNet(nn.Module):
    """PSPNet: main and auxiliary logits. Published: width 64, depths (3, 4, 6, 3) or (3, 4, 23, 3), 512 features."""

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
