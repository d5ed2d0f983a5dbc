"""SegFormer against transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.backbones import mit
from jaxseg.errors import BadInput
from jaxseg.models.semantic import segformer
from jaxseg.registry import find
from jaxseg.weights.names import convert, rename, restore
from tests.oracles.torch_side import F, assert_agree, random_image, random_variables, randomise, state, to_torch, torch
from tests.torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
transformers = pytest.importorskip("transformers", reason="the oracle is transformers")


def reference(**options):
    return transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(**options))


def test_equals_transformers():
    depths, widths, heads = (1, 2, 1, 1), (8, 16, 30, 32), (1, 2, 5, 8)
    torch.manual_seed(0)
    theirs = reference(
        depths=depths, hidden_sizes=widths, num_attention_heads=heads, decoder_hidden_size=24, num_labels=5
    )
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.ndim > 1:  # else attention would be uniform, with weights of 0.02
                torch.nn.init.normal_(parameter, 0, (2 / parameter[0].numel()) ** 0.5)
    theirs = randomise(theirs)
    backbone = mit.MiT(depths=depths, widths=widths, heads=heads, epsilon=1e-5)
    model = segformer.SegFormer(backbone=backbone, num_classes=5, features=24)
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64)))
    variables = convert(state(theirs), target, segformer.TRANSFORMERS_NAMES)
    call = jax.jit(model.apply)
    for size in [(64, 96), (67, 45)]:
        image = random_image(*size)
        with torch.no_grad():
            logits = theirs(to_torch(backbone.standardize(image))).logits
            expected = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        assert_agree(call(variables, image)["logits"], expected)


@pytest.mark.parametrize("variant", ["b0", "b2"])
def test_the_registered_networks_take_every_weight(variant):
    depths, widths = mit.VARIANTS[variant]
    entry = find(f"segformer_{variant}")
    model = entry.build()
    with torch.device("meta"):
        theirs = reference(
            depths=depths, hidden_sizes=widths, decoder_hidden_size=256 if variant < "b2" else 768, num_labels=150
        )
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64)))
    empty = {key: np.broadcast_to(np.float32(0), tuple(value.shape)) for key, value in theirs.state_dict().items()}
    convert(empty, target, entry.names["transformers"])
    assert entry.params == sum(p.numel() for p in theirs.parameters())


PUBLISHED = {
    "segformer.encoder.patch_embeddings.0.proj.weight": "backbone/patches1/kernel",
    "segformer.encoder.patch_embeddings.3.layer_norm.bias": "backbone/patches4_norm/bias",
    "segformer.encoder.block.0.1.layer_norm_1.weight": "backbone/stage1_1/norm1/scale",
    "segformer.encoder.block.1.0.attention.self.query.weight": "backbone/stage2_0/attention/query/kernel",
    "segformer.encoder.block.1.0.attention.self.sr.bias": "backbone/stage2_0/attention/window/bias",
    "segformer.encoder.block.1.0.attention.self.layer_norm.weight": "backbone/stage2_0/attention/window_norm/scale",
    "segformer.encoder.block.2.0.attention.output.dense.weight": "backbone/stage3_0/attention/out/kernel",
    "segformer.encoder.block.2.1.layer_norm_2.bias": "backbone/stage3_1/norm2/bias",
    "segformer.encoder.block.3.1.mlp.dense1.weight": "backbone/stage4_1/expand/kernel",
    "segformer.encoder.block.3.1.mlp.dwconv.dwconv.weight": "backbone/stage4_1/depthwise/kernel",
    "segformer.encoder.block.3.1.mlp.dense2.bias": "backbone/stage4_1/reduce/bias",
    "segformer.encoder.layer_norm.3.weight": "backbone/norm4/scale",
    "decode_head.linear_c.0.proj.weight": "linear2/kernel",
    "decode_head.linear_fuse.weight": "fuse/conv/kernel",
    "decode_head.classifier.bias": "classifier/bias",
}


def test_what_goes_out_has_their_shapes():
    """Dense layers are no convolutions of 1x1 there."""
    theirs = reference(depths=(1,) * 4, hidden_sizes=(8, 16, 30, 32), decoder_hidden_size=24, num_labels=5).state_dict()
    backbone = mit.MiT(depths=(1,) * 4, widths=(8, 16, 30, 32), epsilon=1e-5)
    model = segformer.SegFormer(backbone=backbone, num_classes=5, features=24)
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64)))
    source = {name: value.numpy() for name, value in theirs.items()}
    back = restore(convert(source, target, segformer.TRANSFORMERS_NAMES), segformer.TRANSFORMERS_NAMES)
    assert back.keys() == source.keys()
    for name, value in source.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)


def test_names_of_published_files():
    assert {name: rename(name, segformer.TRANSFORMERS_NAMES) for name in PUBLISHED} == PUBLISHED
    paths = {path for _, path in mit.HUB_NAMES}
    assert paths == {path for _, path in mit.TRANSFORMERS_NAMES}


def test_stochastic_depth_drops_branches_only_in_training():
    """At a rate of nearly one both branches are gone, and the map passes unchanged."""
    block = mit.Block(heads=2, reduction=1, drop_path=0.999)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 8)), jnp.float32)
    variables = random_variables(block, x, train=False)
    apply = jax.jit(block.apply, static_argnames="train")
    np.testing.assert_array_equal(apply(variables, x, train=True, rngs={"dropout": jax.random.key(2)}), x)
    assert not np.allclose(apply(variables, x, train=False), x)


def test_mistakes_are_named():
    with pytest.raises(BadInput, match="no MiT is called 'b6'"):
        mit.mit("b6")
    with pytest.raises(BadInput, match="28x64 is too small"):
        jax.eval_shape(lambda: mit.mit("b0").init(jax.random.key(0), random_image(28, 64), train=False))
