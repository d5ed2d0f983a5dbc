"""Take off what wrappers of training programs put before the names of weights: ``model.``, ``segmentor.``, ``ema.``."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from jaxseg.errors import BadInput, several, suggest
from jaxseg.types import Rules
from jaxseg.weights.inverse import leads
from jaxseg.weights.names import rename

MOST = 16
"""Prefixes that are tried, those of the most names first."""

STATISTICS = frozenset(("mean", "std", "pixel_mean", "pixel_std", "image_mean", "image_std"))
"""Buffers of statistics of pixels, which programs keep beside a network; our networks have them as a field."""


class Unprefixed(NamedTuple):
    """Arrays by name without a prefix.

    >>> Unprefixed({}, "model.", ("mean",)).notes
    ("names without their prefix 'model.'", 'left out, as not under it: mean')
    """

    source: dict[str, Any]
    prefix: str
    outside: tuple[str, ...]
    """Names that do not have the prefix."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, one line each."""
        taken = (f"names without their prefix {self.prefix!r}",) if self.prefix else ()
        return (*taken, f"left out, as not under it: {_grouped(self.outside)}") if self.outside else taken


def without_prefix(source: Mapping[str, Any], prefix: str) -> Unprefixed:
    """Return the arrays under a prefix that the user names, with or without its last dot.

    Raises:
      BadInput: no name has it; the prefixes that there are, are named.

    >>> without_prefix({"net.conv.weight": 1, "mean": 2}, "net").source
    {'conv.weight': 1}
    """
    whole = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
    found = {name.removeprefix(whole): value for name, value in source.items() if name.startswith(whole)}
    if not found:
        known = list(prefixes(source))
        raise BadInput(
            f"no name begins with {whole!r}{suggest(whole, known)}; there are {', '.join(known[:6]) or 'no prefixes'}"
        )
    return Unprefixed(found, whole, tuple(name for name in source if not name.startswith(whole)))


def fitting_prefix(source: Mapping[str, Any], leaves: Collection[str], rules: Iterable[Rules]) -> Unprefixed:
    """Return the arrays under the prefix without which most of them lead to leaves of the model.

    Names that fit as they are stay as they are. Buffers beside the network (:data:`STATISTICS` under its prefix too),
    and copies of it such as moving averages, lie outside.

    Args:
      source: arrays by name.
      leaves: paths of the model.
      rules: all that may apply.

    >>> names = ["model.conv.weight", "ema.conv.weight", "ema.conv.bias", "mean"]
    >>> rules = ((r"conv\\.weight", "conv/kernel"), (r"conv\\.bias", "conv/bias"))
    >>> fitting_prefix(dict.fromkeys(names), ("conv/kernel", "conv/bias"), [rules]).notes
    ("names without their prefix 'ema.'", 'left out, as not under it: model.* (1), mean')
    """
    known = tuple(rules)
    best = Unprefixed(dict(source), "", ())
    most = _fit(best.source, leaves, known)
    for prefix in list(prefixes(source))[:MOST] if most < len(source) else ():
        under = without_prefix(source, prefix)
        fit = _fit(under.source, leaves, known)
        if fit > max(most, 0) and 2 * fit >= len(under.source):
            best, most = under, fit
    spare = [name for name in best.source if name in STATISTICS and not any(rename(name, each) for each in known)]
    kept = {name: value for name, value in best.source.items() if name not in spare}
    return Unprefixed(kept, best.prefix, (*best.outside, *(best.prefix + name for name in spare)))


def prefixes(names: Iterable[str]) -> dict[str, int]:
    """Return the prefixes that end in a dot with how many names have each, the most frequent first.

    >>> prefixes(["net.conv.weight", "net.conv.bias", "mean"])
    {'net.': 2, 'net.conv.': 2}
    """
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        counts.update(".".join(parts[:end]) + "." for end in range(1, len(parts)))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], len(item[0]))))


def _fit(source: Mapping[str, Any], leaves: Collection[str], rules: tuple[Rules, ...]) -> int:
    """Count the names that lead to a leaf, less those that lead nowhere, by the rules that do best."""
    counts = []
    for each in rules:
        paths = [rename(name, each) for name in source]
        fit = [path is None or (path != "" and set(leads(path)) <= set(leaves)) for path in paths]
        counts.append(sum(fit) - paths.count(""))
    return max(counts, default=0)


def _grouped(names: tuple[str, ...]) -> str:
    """Return names in a few words: those with a dot by their first part."""
    groups = Counter(f"{name.split('.')[0]}.*" if "." in name else name for name in names)
    shown = [f"{group} ({count})" if group.endswith(".*") else group for group, count in groups.items()]
    return several(shown, 6)
