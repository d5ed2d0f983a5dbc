"""Keypoint R-CNN on COCO's persons, with torchvision's training.

Paper: He et al. 2017, arXiv:1703.06870, section 5
Published: box AP 54.6, keypoint AP 65.0 on the validation images (torchvision); 62.7 on test-dev in the paper
Ours: not run yet
Hardware and time: not run yet; 16 images of 800x1344 an update need several GPUs
Command: jaxseg train experiments/keypoint_rcnn_coco.py, after jaxseg data prepare coco --source DIR, with
  person_keypoints_*.json alone in annotations
Departures: images without persons stay in; all images of a batch lie on one of two canvases.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Canvas, RandomFlip, ResizeShort
from jaxseg.models.keypoints.keypoint_rcnn import keypoint_rcnn_resnet50_fpn
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.keypoints import Keypoints
from jaxseg.train.optim import SGD, Milestones, Warmup
from jaxseg.weights.pretrained import Pretrained

WARMUP = 1000
CANVASES = Canvas(((800, 1344), (1344, 800)))
TEST = (ResizeShort(800, 1333), CANVASES)
PERSONS = (("classes", ("person",)),)


def recipe() -> Recipe:
    """46 epochs of the images with persons; the rate falls after 36 and 43; left and right joints change places."""
    val = Source("coco", "val", TEST, PERSONS)
    facts = Data(train=val, val=val).facts()
    several, flip = ResizeShort((640, 672, 704, 736, 768, 800), 1333), RandomFlip(swap=facts.joint_pairs)
    data = Data(
        train=Source("coco", "train", (several, CANVASES, flip), PERSONS),
        val=val,
        keys=("image", "index", "size", "original_size", "boxes", "classes", "valid", "crowd", "area", "keypoints"),
        slots=100,
        workers=8,
    )
    stage = Stage(
        model=keypoint_rcnn_resnet50_fpn(),
        task=Keypoints(1, ("person",), joints=facts.joints),
        data=data,
        optimizer=SGD(
            Warmup(WARMUP, Milestones(0.02, (143_000, 171_000)), start=0.001),
            momentum=0.9,
            weight_decay=1e-4,
            lr_multipliers=((r"^backbone/(conv1|layer1_)", 0.0),),
        ),
        steps=184_000,
        batch_size=16,
        eval_batch_size=2,
        eval_every=20_000,
        save_every=1000,
        keep_best="keypoint_ap",
        init=Pretrained(
            "torchvision:IMAGENET1K_V1", resnet.TORCHVISION_NAMES, part="backbone", architecture="resnet50"
        ),
    )
    return Recipe(stages=(stage,), name="keypoint_rcnn_coco")
