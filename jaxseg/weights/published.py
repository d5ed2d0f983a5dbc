"""Published weights, by architecture and name of the source."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A published file of weights.

    >>> PUBLISHED["fcn_resnet50"]["torchvision:COCO_WITH_VOC_LABELS_V1"].url.startswith("https://")
    True

    Attributes:
      url: of the file.
      sha256: the whole hash, or as many of its first digits as the publisher states.
      licence: of the weights, "" if the publisher states none.
      classes: of its outputs.
      figure: reported by the publisher.
    """

    url: str
    sha256: str = ""
    licence: str = ""
    classes: str = ""
    figure: str = ""


def _of_torchvision(file: str, classes: str, figure: str) -> Published:
    """Return an entry for a torchvision file, whose name ends in the first digits of its hash."""
    stem = file.removesuffix(".pth")
    return Published(f"https://download.pytorch.org/models/{file}", stem[-8:], "", classes, figure)


ZOO = "https://dl.fbaipublicfiles.com/detectron2/"
"""Where detectron2's model zoo is."""

_COCO = "classes of COCO"
_FIGURES = {"Detection": "box AP", "Instance": "mask AP", "Keypoints": "keypoint AP", "Panoptic": "PQ"}
_VOC, _IMAGENET = "the 21 classes of PASCAL VOC", "the 1000 classes of ImageNet"

NETWORKS = (
    ("fcn_resnet50", "fcn_resnet50_coco-1167a1af.pth", "60.5"),
    ("fcn_resnet101", "fcn_resnet101_coco-7ecb50ca.pth", "63.7"),
    ("deeplabv3_resnet50", "deeplabv3_resnet50_coco-cd0a2569.pth", "66.4"),
    ("deeplabv3_resnet101", "deeplabv3_resnet101_coco-586e9e4e.pth", "67.4"),
    ("deeplabv3_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large-fc3c493d.pth", "60.3"),
    ("lraspp_mobilenet_v3_large", "lraspp_mobilenet_v3_large-d234d4ea.pth", "57.9"),
)
"""torchvision:COCO_WITH_VOC_LABELS_V1; mIoU on COCO val2017's images with VOC's classes, from torchvision's table."""

DETECTORS = (
    ("faster_rcnn_resnet50_fpn", "COCO_V1", "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", "box AP 37.0"),
    ("faster_rcnn_resnet50_fpn_v2", "COCO_V1", "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth", "box AP 46.7"),
    ("faster_rcnn_mobilenet_v3_large_fpn", "COCO_V1", "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth", "box AP 32.8"),
    (
        "faster_rcnn_mobilenet_v3_large_320_fpn",
        "COCO_V1",
        "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
        "box AP 22.8",
    ),
    ("mask_rcnn_resnet50_fpn", "COCO_V1", "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", "box AP 37.9, mask AP 34.6"),
    ("mask_rcnn_resnet50_fpn_v2", "COCO_V1", "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", "box AP 47.4, mask AP 41.8"),
    (
        "keypoint_rcnn_resnet50_fpn",
        "COCO_V1",
        "keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
        "box AP 54.6, keypoint AP 65.0",
    ),
    (
        "keypoint_rcnn_resnet50_fpn",
        "COCO_LEGACY",
        "keypointrcnn_resnet50_fpn_coco-9f466800.pth",
        "box AP 50.6, keypoint AP 61.1",
    ),
    ("retinanet_resnet50_fpn", "COCO_V1", "retinanet_resnet50_fpn_coco-eeacb38b.pth", "box AP 36.4"),
    ("retinanet_resnet50_fpn_v2", "COCO_V1", "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth", "box AP 41.5"),
    ("ssd300_vgg16", "COCO_V1", "ssd300_vgg16_coco-b556d3b4.pth", "box AP 25.1"),
    (
        "ssdlite320_mobilenet_v3_large",
        "COCO_V1",
        "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
        "box AP 21.3",
    ),
)
"""torchvision:COCO_V1 and COCO_LEGACY, with the figures on COCO val2017 of torchvision's table."""

DETECTRON2 = (
    ("faster_rcnn_resnet50_c4", "COCO-Detection/faster_rcnn_R_50_C4_1x/137257644/model_final_721ade.pkl", "35.7"),
    ("faster_rcnn_resnet50_c4", "COCO-Detection/faster_rcnn_R_50_C4_3x/137849393/model_final_f97cb7.pkl", "38.4"),
    ("faster_rcnn_resnet50_fpn", "COCO-Detection/faster_rcnn_R_50_FPN_1x/137257794/model_final_b275ba.pkl", "37.9"),
    ("faster_rcnn_resnet50_fpn", "COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl", "40.2"),
    ("faster_rcnn_resnet101_fpn", "COCO-Detection/faster_rcnn_R_101_FPN_3x/137851257/model_final_f6e8b1.pkl", "42.0"),
    (
        "mask_rcnn_resnet50_c4",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x/137259246/model_final_9243eb.pkl",
        "32.2",
    ),
    (
        "mask_rcnn_resnet50_c4",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x/137849525/model_final_4ce675.pkl",
        "34.4",
    ),
    (
        "mask_rcnn_resnet50_fpn",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x/137260431/model_final_a54504.pkl",
        "35.2",
    ),
    (
        "mask_rcnn_resnet50_fpn",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl",
        "37.2",
    ),
    (
        "mask_rcnn_resnet101_c4",
        "COCO-InstanceSegmentation/mask_rcnn_R_101_C4_3x/138363239/model_final_a2914c.pkl",
        "36.7",
    ),
    (
        "mask_rcnn_resnet101_fpn",
        "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x/138205316/model_final_a3ec72.pkl",
        "38.6",
    ),
    (
        "mask_rcnn_resnext101_32x8d_fpn",
        "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x/139653917/model_final_2d9806.pkl",
        "39.5",
    ),
    ("keypoint_rcnn_resnet50_fpn", "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x/137261548/model_final_04e291.pkl", "64.0"),
    ("keypoint_rcnn_resnet50_fpn", "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x/137849621/model_final_a6e10b.pkl", "65.5"),
    (
        "panoptic_fpn_resnet50",
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x/139514544/model_final_dbfeb4.pkl",
        "39.4",
    ),
    (
        "panoptic_fpn_resnet50",
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x/139514569/model_final_c10459.pkl",
        "41.5",
    ),
    (
        "panoptic_fpn_resnet101",
        "COCO-PanopticSegmentation/panoptic_fpn_R_101_3x/139514519/model_final_cafdb1.pkl",
        "43.0",
    ),
)
"""Files of detectron2's model zoo, also under its names, ``detectron2:COCO-Detection/faster_rcnn_R_50_C4_1x``, with its
figures on COCO val2017: box AP, mask AP, keypoint AP or PQ."""

BACKBONES = (
    ("alexnet", "V1", "alexnet-owt-7be5be79.pth", "56.522"),
    ("vgg11", "V1", "vgg11-8a719046.pth", "69.02"),
    ("vgg11_bn", "V1", "vgg11_bn-6002323d.pth", "70.37"),
    ("vgg13", "V1", "vgg13-19584684.pth", "69.928"),
    ("vgg13_bn", "V1", "vgg13_bn-abd245e5.pth", "71.586"),
    ("vgg16", "V1", "vgg16-397923af.pth", "71.592"),
    ("vgg16_bn", "V1", "vgg16_bn-6c64b313.pth", "73.36"),
    ("vgg19", "V1", "vgg19-dcbb9e9d.pth", "72.376"),
    ("vgg19_bn", "V1", "vgg19_bn-c79401a0.pth", "74.218"),
    ("resnet18", "V1", "resnet18-f37072fd.pth", "69.758"),
    ("resnet34", "V1", "resnet34-b627a593.pth", "73.314"),
    ("resnet50", "V1", "resnet50-0676ba61.pth", "76.13"),
    ("resnet50", "V2", "resnet50-11ad3fa6.pth", "80.858"),
    ("resnet101", "V1", "resnet101-63fe2227.pth", "77.374"),
    ("resnet101", "V2", "resnet101-cd907fc2.pth", "81.886"),
    ("resnet152", "V1", "resnet152-394f9c45.pth", "78.312"),
    ("resnet152", "V2", "resnet152-f82ba261.pth", "82.284"),
    ("resnext50_32x4d", "V1", "resnext50_32x4d-7cdf4587.pth", "77.618"),
    ("resnext50_32x4d", "V2", "resnext50_32x4d-1a0047aa.pth", "81.198"),
    ("resnext101_32x8d", "V1", "resnext101_32x8d-8ba56ff5.pth", "79.312"),
    ("resnext101_32x8d", "V2", "resnext101_32x8d-110c445d.pth", "82.834"),
    ("resnext101_64x4d", "V1", "resnext101_64x4d-173b62eb.pth", "83.246"),
    ("mobilenet_v2", "V1", "mobilenet_v2-b0353104.pth", "71.878"),
    ("mobilenet_v2", "V2", "mobilenet_v2-7ebf99e0.pth", "72.154"),
    ("mobilenet_v3_large", "V1", "mobilenet_v3_large-8738ca79.pth", "74.042"),
    ("mobilenet_v3_large", "V2", "mobilenet_v3_large-5c1a4163.pth", "75.274"),
    ("mobilenet_v3_small", "V1", "mobilenet_v3_small-047dcff4.pth", "67.668"),
)
"""torchvision:IMAGENET1K_V1 and V2, top-1 on ImageNet's validation set, from torchvision's own table."""


def _table() -> dict[str, dict[str, Published]]:
    found: dict[str, dict[str, Published]] = {}
    for name, file, figure in NETWORKS:
        found[name] = {"torchvision:COCO_WITH_VOC_LABELS_V1": _of_torchvision(file, _VOC, f"mIoU {figure}")}
    for name, version, file, figure in DETECTORS:
        known = found.setdefault(name, {})
        known[f"torchvision:{version}"] = _of_torchvision(file, _COCO, figure)
    for name, place, figure in DETECTRON2:
        kind = next(kind for part, kind in _FIGURES.items() if part in place)
        zoo = Published(f"{ZOO}{place}", classes=_COCO, figure=f"{kind} {figure}")
        found.setdefault(name, {})[f"detectron2:{'/'.join(place.split('/')[:2])}"] = zoo
    for name, version, file, figure in BACKBONES:
        known = found.setdefault(name, {})
        known[f"torchvision:IMAGENET1K_{version}"] = _of_torchvision(file, _IMAGENET, f"top-1 {figure}")
    return found


PUBLISHED: dict[str, dict[str, Published]] = _table()
"""By architecture, a model of the zoo or a backbone under torchvision's name, and by the name of the source."""
