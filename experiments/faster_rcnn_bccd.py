"""Blood cells: Faster R-CNN on a MobileNetV2 that was trained on ImageNet, on two CPU cores.

Paper: Ren et al. 2015, arXiv:1506.01497; Lin et al. 2017, arXiv:1612.03144 (the pyramid); Sandler et al. 2018,
  arXiv:1801.04381 (the backbone)
Published: nothing under this evaluation; users report AP50 of 85 to 93 for larger detectors
Ours: AP50 90.6, AP 59.6, AP75 65.0 on the 87 validation images (90.2 AP50 halfway)
Hardware and time: two cores of an AMD EPYC, shared with other work: 55 minutes
Command: jaxseg train experiments/faster_rcnn_bccd.py, after jaxseg data prepare bccd --source DIR
Departures: images at half size, a pyramid of 128 channels, anchors from 16 to 256 pixels, 128 regions of an image; the
  backbone's normalisation keeps ImageNet's statistics; AdamW under a one-cycle schedule.
"""

from jaxseg.backbones import mobilenet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Photometric, RandomFlip, Resize
from jaxseg.layers.rpn import Proposing
from jaxseg.models.detection.faster_rcnn_mobilenet import faster_rcnn_mobilenet_v2_fpn
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.train.optim import AdamW, OneCycle
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained(
    "mobilenet_v2-b0353104.pth",
    mobilenet.TORCHVISION_V2_NAMES,
    part="backbone",
    source="torchvision's MobileNet_V2_Weights.IMAGENET1K_V1 (BSD-3), from https://download.pytorch.org/models/",
)


def recipe() -> Recipe:
    """Cells lie any way up: flips; dyes and lamps differ: colours change."""
    half = Resize(240, 320)
    augment = (half, RandomFlip(), Photometric(0.2, 0.2, 0.2, 0.03))
    data = Data(
        train=Source("bccd", "train", augment),
        val=Source("bccd", "val", (half,)),
        keys=("image", "index", "boxes", "classes", "valid", "area", "size", "original_size"),
        slots=40,
    )
    things = data.facts().things
    model = faster_rcnn_mobilenet_v2_fpn(num_classes=len(things), features=128, dense=256).clone(
        anchor_sizes=((16,), (32,), (64,), (128,), (256,)),
        samples=128,
        train_proposing=Proposing(512, 256),
        test_proposing=Proposing(256, 128),
        detections=60,
    )
    stage = Stage(
        model=model,
        task=Detection(len(things), things),
        data=data,
        optimizer=AdamW(OneCycle(4e-4, warmup=0.1), weight_decay=1e-2, clip=5.0),
        steps=800,
        batch_size=4,
        ema=0.99,
        log_every=25,
        eval_every=400,
        save_every=100,
        keep_best="box_ap50",
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="faster_rcnn_bccd")
