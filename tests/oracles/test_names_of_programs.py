"""Rules for names that other programs give to the same networks; ``test_round_trips.py`` takes them there and back."""

import pytest

from jaxseg.models.semantic import segformer, upernet
from jaxseg.weights.names import rename

NVLABS = {
    "backbone.patch_embed1.proj.weight": "backbone/patches1/kernel",
    "backbone.patch_embed4.norm.bias": "backbone/patches4_norm/bias",
    "backbone.block1.1.norm1.weight": "backbone/stage1_1/norm1/scale",
    "backbone.block2.0.attn.q.weight": "backbone/stage2_0/attention/query/kernel",
    "backbone.block2.0.attn.kv.bias": "backbone/stage2_0/attention/{key,value}/bias",
    "backbone.block2.0.attn.sr.bias": "backbone/stage2_0/attention/window/bias",
    "backbone.block4.1.mlp.dwconv.dwconv.weight": "backbone/stage4_1/depthwise/kernel",
    "backbone.norm4.weight": "backbone/norm4/scale",
    "decode_head.linear_c1.proj.weight": "linear2/kernel",
    "decode_head.linear_c4.proj.bias": "linear5/bias",
    "decode_head.linear_fuse.conv.weight": "fuse/conv/kernel",
    "decode_head.linear_fuse.bn.running_var": "fuse/norm/var",
    "decode_head.linear_fuse.bn.num_batches_tracked": None,
    "decode_head.conv_seg.weight": None,
    "decode_head.linear_pred.bias": "classifier/bias",
}

MMSEG = {
    "backbone.conv1.weight": "backbone/conv1/kernel",
    "backbone.layer2.0.downsample.1.running_mean": "backbone/layer2_0/norm_shortcut/mean",
    "decode_head.psp_modules.3.1.conv.weight": "decoder/pyramid/grid6/conv/kernel",
    "decode_head.bottleneck.bn.weight": "decoder/pyramid_fuse/norm/scale",
    "decode_head.lateral_convs.0.conv.weight": "decoder/lateral2/conv/kernel",
    "decode_head.fpn_convs.2.bn.bias": "decoder/level4/norm/bias",
    "decode_head.fpn_bottleneck.conv.weight": "decoder/fuse/conv/kernel",
    "decode_head.conv_seg.weight": "classifier/kernel",
    "auxiliary_head.convs.0.bn.running_var": "aux_head/norm/var",
    "auxiliary_head.conv_seg.bias": "aux_classifier/bias",
}


@pytest.mark.parametrize(
    ("rules", "published"), [(segformer.NVLABS_NAMES, NVLABS), (upernet.MMSEG_NAMES, MMSEG)], ids=["nvlabs", "mmseg"]
)
def test_published_names_lead_to_their_paths(rules, published):
    assert {source: rename(source, rules) for source in published} == published
