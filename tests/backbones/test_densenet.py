"""DenseNet against torchvision."""

import jax

from jaxseg.backbones.densenet import TORCHVISION_NAMES, DenseNet
from jaxseg.weights.names import convert
from tests.oracles.torch_side import assert_agree, random_image, randomise, state, to_torch, torch
from tests.torchvision_cpu import torchvision_or_skip


def test_equals_torchvision():
    """Every map, as segmentation-models-pytorch takes them: before a transition's convolution, after its ReLU."""
    build = torchvision_or_skip().models.DenseNet
    torch.manual_seed(0)
    reference = randomise(build(growth_rate=4, block_config=(2, 1, 2, 2), num_init_features=8))
    model = DenseNet((2, 1, 2, 2), growth=4, width=8)
    target = jax.eval_shape(lambda: model.init(jax.random.key(0), random_image(64, 64), train=False))
    variables = convert(state(reference), target, TORCHVISION_NAMES)
    image = random_image(37, 70)
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image)
    x, part = to_torch(model.standardize(image)), reference.features
    with torch.no_grad():
        x = part.relu0(part.norm0(part.conv0(x)))
        assert_agree(ours["c1"], x)
        x = part.pool0(x)
        for k in (1, 2, 3):
            transition = getattr(part, f"transition{k}")
            x = transition.relu(transition.norm(getattr(part, f"denseblock{k}")(x)))
            assert_agree(ours[f"c{k + 1}"], x)
            x = transition.pool(transition.conv(x))
        assert_agree(ours["c5"], part.norm5(part.denseblock4(x)))
