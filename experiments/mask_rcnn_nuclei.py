"""Cell nuclei: Mask R-CNN on a MobileNetV2 that was trained on ImageNet, on two CPU cores.

Paper: He et al. 2017, arXiv:1703.06870; Lin et al. 2017, arXiv:1612.03144 (the pyramid); Sandler et al. 2018,
  arXiv:1801.04381 (the backbone)
Published: nothing under this evaluation
Ours: mask AP50 88.0, AP 51.5, box AP50 89.0, AP 55.9 on the held-out fifth of the images; in
  tiles of 256, stitched (jaxseg evaluate --tile 256): mask AP50 88.1, AP 51.1, box AP50 88.8, AP 55.5
Hardware and time: two cores of an AMD EPYC, shared with other work: 28 minutes with the evaluation, 35 of a processor's
Command: jaxseg train experiments/mask_rcnn_nuclei.py, after jaxseg data prepare nuclei --source DIR
Departures: crops of 256x256, a pyramid of 96 channels, anchors from 8 to 128 pixels, up to 400 nuclei an image; the
  backbone's normalisation keeps ImageNet's statistics; AdamW under a one-cycle schedule. Evaluation sees whole images,
  one by one, each size compiled once.
"""

from jaxseg.backbones import mobilenet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Photometric, RandomCrop, RandomFlip, RandomRotate90, RandomScale
from jaxseg.layers.roi_heads import MaskHead
from jaxseg.layers.rpn import Proposing
from jaxseg.models.detection.faster_rcnn import fields_of
from jaxseg.models.detection.faster_rcnn_mobilenet import faster_rcnn_mobilenet_v2_fpn
from jaxseg.models.instance.mask_rcnn import MaskRCNN
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.instance import Instance
from jaxseg.train.optim import AdamW, OneCycle
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained(
    "mobilenet_v2-b0353104.pth",
    mobilenet.TORCHVISION_V2_NAMES,
    part="backbone",
    source="torchvision's MobileNet_V2_Weights.IMAGENET1K_V1 (BSD-3), from https://download.pytorch.org/models/",
)


def recipe() -> Recipe:
    """Nuclei lie any way up and look different under every microscope."""
    augment = (
        RandomScale(0.7, 1.4),
        RandomCrop(256, 256),
        RandomFlip(),
        RandomRotate90(),
        Photometric(0.2, 0.3, 0.2, 0.05),
    )
    data = Data(
        train=Source("nuclei", "train", augment),
        val=Source("nuclei", "val"),
        keys=("image", "index", "boxes", "classes", "valid", "area", "instance_ids"),
        slots=400,
    )
    things = data.facts().things
    detector = faster_rcnn_mobilenet_v2_fpn(num_classes=len(things), features=96, dense=256).clone(
        anchor_sizes=((8,), (16,), (32,), (64,), (128,)),
        samples=128,
        positive_fraction=0.5,
        train_proposing=Proposing(1000, 400),
        test_proposing=Proposing(1000, 800),
        detections=400,
    )
    stage = Stage(
        model=MaskRCNN(**fields_of(detector), mask_head=MaskHead((96,) * 4, 96)),
        task=Instance(len(things), things, max_detections=400),
        data=data,
        optimizer=AdamW(OneCycle(4e-4, warmup=0.1), weight_decay=1e-2, clip=5.0),
        steps=600,
        batch_size=4,
        ema=0.99,
        log_every=25,
        eval_every=600,
        eval_batch_size=1,
        save_every=100,
        keep_best="mask_ap50",
        pictures=1,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="mask_rcnn_nuclei")
