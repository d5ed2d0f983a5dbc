"""Table 1 of SegNet on CamVid, VARIANT: 11 classes at 360x480, from scratch on the 367 training images.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, the row of that decoder
Published (bilinear_interpolation): mIoU 43.3, class accuracy 61.1, pixel accuracy 77.9 on the 233 test images with
  median frequency balancing
Published (segnet_basic): mIoU 47.7, class accuracy 62.0, pixel accuracy 82.7 on the 233 test images with median
  frequency balancing
Published (encoder_addition): mIoU 48.5, class accuracy 63.6, pixel accuracy 83.4 on the 233 test images with median
  frequency balancing
Published (single_channel_decoder): mIoU 46.1, class accuracy 60.7, pixel accuracy 81.2 on the 233 test images with
  median frequency balancing
Published (fcn_basic): mIoU 47.3, class accuracy 62.4, pixel accuracy 81.7 on the 233 test images with median
  frequency balancing
Published (fcn_basic_noaddition): mIoU 44.1, class accuracy 58.6, pixel accuracy 80.5 on the 233 test images with
  median frequency balancing
Published (fcn_basic_nodimreduction): mIoU 50.1, class accuracy 63.4, pixel accuracy 84.1 on the 233 test images with
  median frequency balancing
Published (fcn_basic_noaddition_nodimreduction): mIoU 45.9, class accuracy 61.6, pixel accuracy 80.5 on the 233 test
  images with median frequency balancing
Published (bilinear_interpolation_natural): mIoU 43.8, class accuracy 52.5, pixel accuracy 82.7 on the 233 test images
  with natural frequencies
Published (segnet_basic_natural): mIoU 46.3, class accuracy 54.6, pixel accuracy 84.0 on the 233 test images with
  natural frequencies
Published (encoder_addition_natural): mIoU 47.7, class accuracy 56.5, pixel accuracy 84.2 on the 233 test images with
  natural frequencies
Published (single_channel_decoder_natural): mIoU 45.2, class accuracy 53.9, pixel accuracy 83.5 on the 233 test images
  with natural frequencies
Published (fcn_basic_natural): mIoU 45.0, class accuracy 55.6, pixel accuracy 83.9 on the 233 test images with natural
  frequencies
Published (fcn_basic_noaddition_natural): mIoU 44.2, class accuracy 53.9, pixel accuracy 82.3 on the 233 test images
  with natural frequencies
Published (fcn_basic_nodimreduction_natural): mIoU 47.0, class accuracy 57.3, pixel accuracy 83.5 on the 233 test
  images with natural frequencies
Published (fcn_basic_noaddition_nodimreduction_natural): mIoU 45.5, class accuracy 54.8, pixel accuracy 83.7 on the
  233 test images with natural frequencies
Ours (bilinear_interpolation): mIoU 51.8 (50.8 with void counted), class accuracy 74.8, pixel accuracy 81.2, boundary
  F1 38.1 on the 101 validation images, void ignored; computed in bfloat16
Ours (segnet_basic): mIoU 52.0 (51.0 with void counted), class accuracy 75.8, pixel accuracy 81.4, boundary F1 40.6 on
  the 101 validation images, void ignored; computed in bfloat16
Ours (encoder_addition): mIoU 54.6 (53.2 with void counted), class accuracy 78.7, pixel accuracy 83.3, boundary F1
  45.8 on the 101 validation images, void ignored; computed in bfloat16
Ours (single_channel_decoder): mIoU 47.9 (47.0 with void counted), class accuracy 72.3, pixel accuracy 77.9, boundary
  F1 31.7 on the 101 validation images, void ignored; computed in float32
Ours (fcn_basic): mIoU 55.6 (54.2 with void counted), class accuracy 79.4, pixel accuracy 83.4, boundary F1 46.5 on
  the 101 validation images, void ignored; computed in bfloat16
Ours (fcn_basic_noaddition): mIoU 52.9 (51.7 with void counted), class accuracy 76.2, pixel accuracy 82.0, boundary F1
  40.3 on the 101 validation images, void ignored; computed in bfloat16
Ours (fcn_basic_nodimreduction): mIoU 55.6 (54.2 with void counted), class accuracy 79.4, pixel accuracy 83.9,
  boundary F1 47.4 on the 101 validation images, void ignored; computed in bfloat16
Ours (fcn_basic_noaddition_nodimreduction): mIoU 53.2 (52.1 with void counted), class accuracy 76.7, pixel accuracy
  82.6, boundary F1 39.0 on the 101 validation images, void ignored; computed in bfloat16
Ours (bilinear_interpolation_natural): mIoU 33.4 (32.9 with void counted), class accuracy 43.0, pixel accuracy 76.3,
  boundary F1 13.7 on the 101 validation images, void ignored, after 250 updates of 6 images at 90x120; balanced, in
  the same training: 38.8, 62.3, 66.6
Ours (segnet_basic_natural): mIoU 32.2 (31.6 with void counted), class accuracy 42.5, pixel accuracy 76.1, boundary F1
  15.2 on the 101 validation images, void ignored, after 250 updates of 6 images at 90x120; balanced, in the same
  training: 35.9, 58.3, 60.5
Ours (encoder_addition_natural): mIoU 35.9 (35.2 with void counted), class accuracy 47.0, pixel accuracy 77.2,
  boundary F1 22.3 on the 101 validation images, void ignored, after 250 updates of 6 images at 90x120; balanced, in
  the same training: 42.4, 65.9, 67.9
Ours (single_channel_decoder_natural): mIoU 28.2 (27.9 with void counted), class accuracy 38.2, pixel accuracy 71.0,
  boundary F1 14.9 on the 101 validation images, void ignored, after 250 updates of 6 images at 90x120; balanced, in
  the same training: 27.6, 48.1, 55.3
Ours (fcn_basic_natural): mIoU 37.8 (37.0 with void counted), class accuracy 49.6, pixel accuracy 78.5, boundary F1
  22.9 on the 101 validation images, void ignored, after 250 updates of 6 images at 90x120; balanced, in the same
  training: 40.7, 64.3, 65.3
Ours (fcn_basic_noaddition_natural): mIoU 34.5 (33.9 with void counted), class accuracy 44.9, pixel accuracy 76.9,
  boundary F1 15.7 on the 101 validation images, void ignored, after 250 updates of 6 images at 90x120; balanced, in
  the same training: 34.6, 55.4, 61.4
Ours (fcn_basic_nodimreduction_natural): mIoU 36.8 (36.0 with void counted), class accuracy 49.1, pixel accuracy 77.1,
  boundary F1 23.7 on the 101 validation images, void ignored, after 250 updates of 6 images at 90x120; balanced, in
  the same training: 39.9, 65.1, 65.2
Ours (fcn_basic_noaddition_nodimreduction_natural): mIoU 33.7 (33.2 with void counted), class accuracy 43.9, pixel
  accuracy 76.6, boundary F1 17.7 on the 101 validation images, void ignored, after 250 updates of 6 images at 90x120;
  balanced, in the same training: 37.7, 59.6, 64.9
Hardware and time (bilinear_interpolation): one NVIDIA H200 that up to three other runs used too: 22 seconds in
  updates
Hardware and time (segnet_basic): one NVIDIA H200 that up to three other runs used too: 46 seconds in updates
Hardware and time (encoder_addition): one NVIDIA H200 that up to three other runs used too: 39 seconds in updates
Hardware and time (single_channel_decoder): one NVIDIA H200 that up to three other runs used too: 93 seconds in
  updates
Hardware and time (fcn_basic): one NVIDIA H200 that up to three other runs used too: 25 seconds in updates
Hardware and time (fcn_basic_noaddition): one NVIDIA H200 that up to three other runs used too: 23 seconds in updates
Hardware and time (fcn_basic_nodimreduction): one NVIDIA H200 that up to three other runs used too: 19 seconds in
  updates
Hardware and time (fcn_basic_noaddition_nodimreduction): one NVIDIA H200 that up to three other runs used too: 27
  seconds in updates
Hardware and time (bilinear_interpolation_natural): one core of an AMD EPYC: 86 seconds in updates
Hardware and time (segnet_basic_natural): one core of an AMD EPYC: 6 minutes in updates
Hardware and time (encoder_addition_natural): one core of an AMD EPYC: 6 minutes in updates
Hardware and time (single_channel_decoder_natural): one core of an AMD EPYC: 9 minutes in updates
Hardware and time (fcn_basic_natural): one core of an AMD EPYC: 105 seconds in updates
Hardware and time (fcn_basic_noaddition_natural): one core of an AMD EPYC: 105 seconds in updates
Hardware and time (fcn_basic_nodimreduction_natural): one core of an AMD EPYC: 3 minutes in updates
Hardware and time (fcn_basic_noaddition_nodimreduction_natural): one core of an AMD EPYC: 3 minutes in updates
Command: jaxseg train experiments/segnet_table1_camvid.py:VARIANT, after jaxseg data prepare camvid --source DIR;
  bfloat16: --set stages.0.model.dtype=bfloat16
Departures: local response normalisation of the input, as the released model has it, for the paper's local contrast
  normalisation; 33 epochs under a one-cycle rate whose highest value is the paper's fixed 0.1, where the paper trains
  until the loss has converged (that: --set stages.0.optimizer.learning_rate=0.1 --set stages.0.steps=10000). The
  gradient's norm is clipped at 1: without that FCN-Basic's loss grows without bound within ten updates.
"""

from jaxseg.data import Data, Source
from jaxseg.losses import CrossEntropy
from jaxseg.models.semantic.segnet import fcn_basic, segnet_basic
from jaxseg.models.semantic.segnet_variants import (
    bilinear_interpolation,
    encoder_addition,
    fcn_basic_noaddition,
    fcn_basic_noaddition_nodimreduction,
    fcn_basic_nodimreduction,
    single_channel_decoder,
)
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, OneCycle

NAME = "{variant}_camvid"
VARIANTS = {
    "bilinear_interpolation": (bilinear_interpolation, True),
    "segnet_basic": (segnet_basic, True),
    "encoder_addition": (encoder_addition, True),
    "single_channel_decoder": (single_channel_decoder, True),
    "fcn_basic": (fcn_basic, True),
    "fcn_basic_noaddition": (fcn_basic_noaddition, True),
    "fcn_basic_nodimreduction": (fcn_basic_nodimreduction, True),
    "fcn_basic_noaddition_nodimreduction": (fcn_basic_noaddition_nodimreduction, True),
    "bilinear_interpolation_natural": (bilinear_interpolation, False),
    "segnet_basic_natural": (segnet_basic, False),
    "encoder_addition_natural": (encoder_addition, False),
    "single_channel_decoder_natural": (single_channel_decoder, False),
    "fcn_basic_natural": (fcn_basic, False),
    "fcn_basic_noaddition_natural": (fcn_basic_noaddition, False),
    "fcn_basic_nodimreduction_natural": (fcn_basic_nodimreduction, False),
    "fcn_basic_noaddition_nodimreduction_natural": (fcn_basic_noaddition_nodimreduction, False),
}
"""The network, and True where median-frequency weights balance the classes."""


def recipe(variant: str = "segnet_basic") -> Recipe:
    """The paper's rate of 0.1 at its highest; weights are medians of the frequencies within the images that hold a
    class."""
    network, balanced = VARIANTS[variant]
    data = Data(train=Source("camvid", "train"), val=Source("camvid", "val"))
    facts = data.facts()
    weights = facts.weights["median_frequency"] if balanced else ()
    stage = Stage(
        model=network(num_classes=11),
        task=Semantic(
            num_classes=11,
            losses=(CrossEntropy(weights=weights, normalize="count"),),
            classes=facts.classes,
        ),
        data=data,
        optimizer=SGD(OneCycle(0.1), momentum=0.9, weight_decay=5e-4, clip=1.0),
        steps=1000,
        batch_size=12,
        log_every=20,
        eval_every=500,
        save_every=250,
        keep_best="pixel_accuracy",
        precise_bn=True,
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
