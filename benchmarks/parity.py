"""Our networks beside the public implementations whose weights they import: ``python benchmarks/parity.py``.

The registry says which networks import weights from where. Each public network is built with random weights and random
statistics of its normalisations, its state dict goes through our rules, and both see the same images in evaluation. The
figure is the largest difference of the logits over the largest logit of the reference. The exit status is 1 if any
exceeds the tolerance, or if a network that names an implementation has no builder for it here.

A network is one line in ``parity_LIBRARY.py``. Those libraries are no dependencies of jaxseg: torch, torchvision,
segmentation-models-pytorch, transformers, timm.
"""

import argparse
import fnmatch
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

TOLERANCE = 1e-4

LIBRARIES = ("torchvision", "smp", "transformers", "timm", "semseg", "hrnet")
"""Implementations that the registry names; each has a file ``parity_LIBRARY.py``."""

MEASURED = "*efficientnet*"
"""Networks so deep in gates that of an image nothing is left where statistics are drawn, or numbers grow until float32
is no longer near float64 in the public implementation itself: their statistics are those of random images."""


class Library(Protocol):
    """What a file ``parity_LIBRARY.py`` offers."""

    REFERENCES: Mapping[str, Callable[[], Any]]
    """Name in our registry -> what builds the public network, without pretrained weights."""

    BESIDE: Mapping[str, Callable[[Any], tuple[Any, Any]]]
    """For names there that our registry does not hold: our module and rules, of the public network."""

    NOTE: str
    """What the table says of its rows; "" for nothing."""

    def sizes(self, name: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of the two images for the network of that name; one of them odd where that can be."""
        ...

    def logits(self, network: Any, image: Any) -> Any:
        """Logits [b k h w] at the size of the standardised image [b 3 h w], both torch tensors."""


@dataclass(frozen=True)
class Row:
    """What one comparison found."""

    model: str
    implementation: str
    parameters: int
    errors: dict[tuple[int, int], float]

    @property
    def worst(self) -> float:
        """The larger of the errors."""
        return max(self.errors.values())

    def __str__(self) -> str:
        """A line of the markdown table."""
        sizes = ", ".join(f"{h}x{w}" for h, w in self.errors)
        found = ", ".join(f"{error:.1e}" for error in self.errors.values())
        return f"| `{self.model}` | {self.implementation} | {self.parameters:,} | {sizes} | {found} |"


HEAD = "| network | imports from | parameters | images | largest difference / largest logit |\n|---|---|--:|---|---|"


def references_of(name: str) -> Library:
    """The file of that implementation; nothing public is imported before a builder is called.

    Raises:
      ValueError: there is none.
    """
    if name not in LIBRARIES:
        raise ValueError(f"no file parity_{name}.py; there are: {', '.join(LIBRARIES)}")
    return importlib.import_module(f"parity_{name}")  # type: ignore[return-value]


def pairs(pattern: str = "*") -> Iterator[tuple[str, str]]:
    """(network, implementation) of every set of rules in the registry whose implementation is a library, and BESIDE.

    Of networks that label pixels: detectors are compared box by box, see ``tests/oracles/test_detectors.py``.

    The others are for single repositories, which nothing installs; the oracles hold those networks to real weights.
    """
    from jaxseg.registry import entries

    labellers = {name: entry for name, entry in entries().items() if entry.task == "semantic"}
    known = [(name, given) for name, entry in labellers.items() for given in sorted(set(entry.names) & set(LIBRARIES))]
    known += [(name, given) for given in LIBRARIES for name in references_of(given).BESIDE]
    for name, implementation in known:
        if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(implementation, pattern):
            yield name, implementation


def standardization(model: Any) -> Any:
    """The ``Standardize`` among the fields of a model or of its parts.

    Raises:
      ValueError: it has none.
    """
    from jaxseg.layers.standardize import Standardize

    todo = [model]
    while todo:
        part = todo.pop(0)
        if isinstance(part, Standardize):
            return part
        if is_dataclass(part):
            inside = [getattr(part, f.name, None) for f in fields(part) if f.name != "parent"]
            todo += [value for value in inside if is_dataclass(value) and not isinstance(value, type)]
    raise ValueError(f"{type(model).__name__} has no field of type Standardize")


def randomise(network: Any, seed: int = 0) -> Any:
    """The torch network in evaluation, with random statistics and affine parameters in its normalisations."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.LayerNorm | torch.nn.GroupNorm):
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.bias.normal_(0, 0.1, generator=generator)
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1, generator=generator)
                layer.running_var.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def measure(network: Any, standardize: Any, logits: Callable[[Any, Any], Any]) -> None:
    """Give the torch network's normalisations the means of random images, and variances a tenth above theirs: with
    equal ones rounding would grow from layer to layer."""
    import torch

    image = np.random.default_rng(1).integers(0, 256, (4, 128, 128, 3), dtype=np.uint8)
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in norms:
        layer.train()
        layer.momentum = 1.0
    with torch.no_grad():
        logits(network, torch.from_numpy(np.array(standardize(image))).permute(0, 3, 1, 2))
    for layer in norms:
        layer.running_var *= 1.1
    network.eval()


def compare(name: str, implementation: str) -> Row:
    """Build both, import the weights, and compare at the library's sizes."""
    import jax
    import torch

    from jaxseg.registry import find
    from jaxseg.weights.names import convert

    public = references_of(implementation)
    torch.manual_seed(0)
    network = randomise(public.REFERENCES[name]())
    if name in public.BESIDE:
        model, rules = public.BESIDE[name](network)
    else:
        model, rules = find(name).build(), find(name).names[implementation]
    standardize = standardization(model)
    if fnmatch.fnmatchcase(name, MEASURED):
        measure(network, standardize, public.logits)
    blank = jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8)
    target = jax.eval_shape(model.init, jax.random.key(0), blank)
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    variables = jax.device_put(convert(state, target, rules))
    errors = {}
    for size in public.sizes(name):
        image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
        tensor = torch.from_numpy(np.array(standardize(image))).permute(0, 3, 1, 2)
        with torch.no_grad():
            theirs = public.logits(network, tensor).permute(0, 2, 3, 1).numpy()
        ours = np.asarray(jax.jit(model.apply)(variables, image)["logits"])
        if ours.shape != theirs.shape:
            raise ValueError(f"{name}: ours has shape {ours.shape}, theirs {theirs.shape}")
        errors[size] = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    return Row(name, implementation, sum(leaf.size for leaf in jax.tree.leaves(target["params"])), errors)


def merged(old: str, rows: list[str]) -> str:
    """The table of the old page with these rows in place of those of the same network and implementation; notes."""
    lines = {tuple(line.split("|")[1:3]): line for line in [*old.splitlines(), *rows] if line.startswith("| `")}
    notes = ["", *(note for name in LIBRARIES if (note := references_of(name).NOTE))]
    return "\n".join([HEAD, *(lines[key] for key in sorted(lines)), *notes]) + "\n"


def main() -> int:
    """Compare, print, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="*", metavar="PATTERN", help="networks or implementations of this name")
    parser.add_argument("--missing", action="store_true", help="only networks that the table of --out does not have")
    parser.add_argument(
        "--out", type=Path, help="write the table here; with --only or --missing the other rows stay as they are"
    )
    options = parser.parse_args()
    if options.missing and not options.out:
        parser.error("--missing needs the table: --out FILE")
    some = (options.missing or options.only != "*") and options.out and options.out.exists()
    old = options.out.read_text() if some else ""
    rows, faults = [], []
    for name, implementation in pairs(options.only):
        if options.missing and f"| `{name}` | {implementation} |" in old:
            continue
        try:
            if name not in references_of(implementation).REFERENCES:
                raise ValueError(f"no builder of {name} in parity_{implementation}.py")
            row = compare(name, implementation)
        except (ValueError, ImportError) as error:
            faults.append(f"{name}, {implementation}: {error}")
            continue
        if not row.worst <= TOLERANCE:
            faults.append(f"{name}, {implementation}: {row.worst:.1e} exceeds {TOLERANCE:.0e}")
        print(row, flush=True)
        rows.append(str(row))
        if options.out:
            options.out.write_text(merged(old, rows))
    for fault in faults:
        print(fault, file=sys.stderr)
    if not rows and not faults and not options.missing:
        faults.append(options.only)
        print(f"nothing in the registry that imports weights matches {options.only!r}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # the tests know how to import torchvision
    warnings.simplefilter("ignore")
    sys.exit(main())
