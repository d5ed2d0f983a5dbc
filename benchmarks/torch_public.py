"""The public implementations of ``parity_LIBRARY.py`` as the benchmark calls them: raw RGB in, a dict of logits out."""

import importlib
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch_networks import IMAGENET, Standardize

AUXILIARY = {"torchvision": lambda outputs: outputs.get("aux"), "semseg": lambda outputs: outputs[1]}
"""Where a library's networks have the logits of their auxiliary head."""


class Public(nn.Module):
    """A network of a library behind our standardisation; with its auxiliary logits in training, if it has any."""

    def __init__(self, library: str, network: nn.Module):
        super().__init__()
        self.standardize = Standardize(*IMAGENET, 1 / 255)
        self.network, self.implementation = network, library

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        kept: list[Any] = []
        hook = self.network.register_forward_hook(lambda _module, _inputs, outputs: kept.append(outputs))
        logits = parity(self.implementation).logits(self.network, self.standardize(x))
        hook.remove()
        aux = AUXILIARY[self.implementation](kept[0]) if self.training and self.implementation in AUXILIARY else None
        return {"logits": logits} if aux is None else {"logits": logits, "aux_logits": aux}


def parity(library: str) -> Any:
    """The file of that library."""
    return importlib.import_module(f"parity_{library}")


def build(library: str, name: str) -> Public:
    """The library's network by our name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return Public(library, parity(library).REFERENCES[name]())
