"""Reference networks in torch functional calls whose state dict is drawn as they ask for it, or is a published one."""

import numpy as np

from tests.oracles.torch_side import F, torch


class Drawn:
    """Layers by the names of a public state dict. ``state`` holds what was drawn so far, as NumPy arrays."""

    def __init__(self, state=None):
        self.published = state is not None
        self.state = dict(state or {})
        self._rng = np.random.default_rng(0)

    def get(self, name, shape, draw):
        if not self.published:
            assert name not in self.state, f"{name} is asked for twice"
            self.state[name] = draw(self._rng, shape).astype(np.float32)
        assert self.state[name].shape == shape, name
        return torch.from_numpy(np.asarray(self.state[name]))

    def conv(self, name, x, features, size, *, bias=False, **options):
        size = size if isinstance(size, tuple) else (size, size)
        weight = self.get(f"{name}.weight", (features, x.shape[1], *size), _kernel)
        return F.conv2d(x, weight, self.get(f"{name}.bias", (features,), _small) if bias else None, **options)

    def transposed(self, name, x, features, size, *, bias=False, **options):
        weight = self.get(f"{name}.weight", (x.shape[1], features, size, size), _kernel)
        return F.conv_transpose2d(x, weight, self.get(f"{name}.bias", (features,), _small) if bias else None, **options)

    def norm(self, name, x, eps):
        c = (x.shape[1],)
        scale, bias = self.get(f"{name}.weight", c, _positive), self.get(f"{name}.bias", c, _small)
        mean, var = self.get(f"{name}.running_mean", c, _small), self.get(f"{name}.running_var", c, _positive)
        return F.batch_norm(x, mean, var, scale, bias, eps=eps)

    def prelu(self, name, x, slopes):
        return F.prelu(x, self.get(f"{name}.weight", (slopes,), lambda rng, shape: rng.uniform(0.1, 0.4, shape)))


def _kernel(rng, shape):
    return rng.normal(size=shape) * (2 / np.prod(shape[1:])) ** 0.5


def _small(rng, shape):
    return rng.normal(size=shape) * 0.1


def _positive(rng, shape):
    return rng.uniform(0.5, 1.5, shape)
