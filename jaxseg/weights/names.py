"""The rename engine: a flat state dict of another framework into a model's variables, strictly, and back.

Rules stand beside each architecture as pairs ``(regex, path)``. A regex must match a whole source name; the path may
use its groups (``\\1``) and leads to a leaf of the target without the collection: ``layer1_0/norm1/mean``. None leaves
the entry out on purpose; of names in a group ``(?P<kept>conv_head|bn2)`` the source's network has arrays that it never
uses. The first rule that matches decides. Behind a bar the path may say how the source's numbers
lie, ``"up/kernel|iohw"``, see :data:`jaxseg.weights.layouts.LAYOUTS`; without it they lie as in torch's convolutions
and dense layers. With names in braces, ``attention/{key,value}/kernel``, the source is cut along its first axis into as
many equal parts, which fill the leaves in that order; a part without a name, as in ``{query,,value}``, is zeros there
and nothing here.
"""

import functools
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from jaxseg.errors import BadInput, several
from jaxseg.types import Rules
from jaxseg.weights.inverse import leads, source_name
from jaxseg.weights.layouts import lay_back, lay_out, lay_out_rgb

MAX_SUGGESTIONS = 24
"""Maximum number of mismatches listed with suggestions."""


def kept_elsewhere(rules: Rules) -> tuple[str, ...]:
    r"""Return the parts that the other implementation keeps and never uses, so that its files have more than ours.

    >>> kept_elsewhere(((r"encoder\._(?P<kept>head|norm)\..*", None), (r"fc\..*", None)))
    ('encoder._head', 'encoder._norm')
    """
    found = []
    for pattern, path in rules:
        before, group, rest = pattern.partition("(?P<kept>")
        if path is None and group:
            found += [before.replace("\\", "") + part for part in rest.partition(")")[0].split("|")]
    return tuple(found)


def convert(source: Mapping[str, np.ndarray], target: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    r"""Return variables in the structure, shapes and dtypes of ``target``, with the numbers of ``source``.

    A kernel for RGB fills one for another number of channels, see :func:`jaxseg.weights.layouts.inflate`.

    >>> target = {"params": {"conv": {"kernel": np.zeros((3, 3, 2, 4))}}}
    >>> made = convert({"0.weight": np.ones((4, 2, 3, 3))}, target, ((r"0\.weight", "conv/kernel"),))
    >>> made["params"]["conv"]["kernel"].shape
    (3, 3, 2, 4)

    Args:
      source: arrays by name, in the layouts that the rules say.
      target: variables of the model, arrays or shapes: ``{"params": ..., "batch_stats": ...}``.
      rules: as described above.

    Returns:
      A tree of NumPy arrays like ``target``.

    Raises:
      BadInput: a target that nothing fills or that two sources fill, a source that no rule knows, a path that the model
        does not have, or a shape that does not fit. All faults are listed at once, one a line.
    """
    return convert_keeping(source, target, rules, keep=()).variables


class Converted(NamedTuple):
    """The result of a conversion.

    Attributes:
      variables: a tree of NumPy arrays like the target.
      kept: paths that kept the target's own numbers.
      inflated: paths of kernels for RGB that were inflated to the target's number of channels.

    >>> Converted({}, ("head/bias",)).inflated
    ()
    """

    variables: dict[str, Any]
    kept: tuple[str, ...] = ()
    inflated: tuple[str, ...] = ()


def convert_keeping(
    source: Mapping[str, np.ndarray], target: Mapping[str, Any], rules: Rules, *, keep: Collection[str]
) -> Converted:
    r"""Convert, but let the leaves ``keep`` keep the target's own numbers where the source has none of their shape.

    >>> target = {"params": {"conv": {"kernel": np.zeros((3, 3, 2, 4))}, "head": {"bias": np.zeros(5)}}}
    >>> source = {"0.weight": np.ones((4, 2, 3, 3)), "fc.bias": np.ones(1000)}
    >>> rules = ((r"0\.weight", "conv/kernel"), (r"fc\.bias", "head/bias"))
    >>> convert_keeping(source, target, rules, keep=("head/bias",)).kept
    ('head/bias',)

    Args:
      source: see ``convert``.
      target: see ``convert``; the leaves ``keep`` are arrays.
      rules: see ``convert``.
      keep: paths without their collection, such as those of a head for other classes.

    Raises:
      BadInput: see ``convert``.
    """
    leaves = _leaves(target)
    filled: dict[str, np.ndarray] = {}
    origin: dict[str, str] = {}
    unused: list[str] = []
    kept: list[str] = []
    inflated: list[str] = []
    faults: list[tuple[str, str]] = []
    for name, value in source.items():
        wanted, layout = _match(name, rules)
        if wanted is None:
            continue
        if not wanted:
            unused.append(name)
            faults.append((name, "no rule knows this name"))
        for path, part in _parts(wanted, np.asarray(value)):
            if path not in leaves:
                unused.append(name)
                faults.append((name, f"the model has no {path}"))
                continue
            if path in filled:
                faults.append((name, f"{path} was already filled by {origin[path]}"))
                continue
            key, leaf = leaves[path]
            array = lay_out(part, tuple(leaf.shape), key[-1], layout)
            if array is None:
                array = lay_out_rgb(part, tuple(leaf.shape), key[-1], layout)
                inflated += [path] if array is not None else []
            if array is None and path in keep:
                kept.append(path)
                array = np.asarray(leaf)
            if array is None:
                faults.append((name, f"shape {np.shape(value)} does not fit {path} of {tuple(leaf.shape)}"))
            filled[path] = np.zeros(0) if array is None else array.astype(leaf.dtype)
            origin[path] = name
    for path in keep:
        if path in leaves and path not in filled:
            kept.append(path)
            filled[path] = np.asarray(leaves[path][1])
    unfilled = [path for path in leaves if path not in filled]
    faults += [(path, "nothing in the file fills it") for path in unfilled]
    if faults:
        raise BadInput(_table(faults, unused, unfilled, len(leaves)))
    tree = traverse_util.unflatten_dict({key: filled[path] for path, (key, _) in leaves.items()})
    return Converted(tree, tuple(sorted(kept)), tuple(inflated))


def restore(variables: Mapping[str, Any], rules: Rules) -> dict[str, np.ndarray]:
    r"""Return a state dict under the names and in the layouts of the framework that the rules are for.

    ``convert`` of it gives ``variables`` again, bit for bit. Counters of batches, which torch keeps beside a running
    variance and the rules leave out, are zero.

    >>> variables = {"params": {"conv": {"kernel": np.ones((3, 3, 2, 4))}}}
    >>> restore(variables, ((r"0\.weight", "conv/kernel"),))["0.weight"].shape
    (4, 2, 3, 3)

    Args:
      variables: of the model.
      rules: those that import its weights.

    Raises:
      BadInput: a path to which no rule leads from a name that can be written down.
    """
    parts: dict[str, dict[str, np.ndarray]] = {}
    lost = []
    for path, (key, leaf) in _leaves(variables).items():
        name = source_name(path, rules, lambda name: _match(name, rules)[0])
        if name is None:
            lost.append(path)
        else:
            parts.setdefault(name, {})[path] = lay_back(np.asarray(leaf), key[-1], _match(name, rules)[1])
    found: dict[str, np.ndarray] = {}
    for name, those in parts.items():
        order = leads(_match(name, rules)[0])
        lost += [path for path in order if path and path not in those]
        nothing = np.zeros_like(next(iter(those.values())))
        whole = [those[path] if path else nothing for path in order if path in those or not path]
        found[name] = whole[0] if len(whole) == 1 else np.concatenate(whole)
    if lost:
        raise BadInput(f"no rule leads back from {several(lost)}")
    counters = [f"{name.removesuffix('running_var')}num_batches_tracked" for name in found if "running_var" in name]
    found |= {name: np.zeros((), np.int64) for name in counters if _match(name, rules)[0] is None}
    return found


def rename(name: str, rules: Rules) -> str | None:
    """Return the path that the first matching rule gives, with its braces; "" if none matches, None if it is ignored.

    >>> rename("conv1.weight", ((r"conv(\\d)\\.weight", r"conv\\1/kernel"), (r"fc\\..*", None)))
    'conv1/kernel'
    """
    return _match(name, rules)[0]


def _parts(path: str, value: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the leaves that a path names, each with its part of the value; with the whole if it cannot be cut."""
    paths = leads(path)
    if len(paths) < 2 or not value.ndim or len(value) % len(paths):
        return [(each, value) for each in paths if each]
    return [(each, part) for each, part in zip(paths, np.split(value, len(paths)), strict=True) if each]


def _match(name: str, rules: Rules) -> tuple[str | None, str]:
    """Return the path without its layout, and the layout."""
    for pattern, path in rules:
        match = _compiled(pattern).fullmatch(name)
        if match:
            if path is None:
                return None, ""
            whole = match.expand(path) if match.re.groups else path
            path, _, layout = whole.partition("|")
            return path, layout
    return "", ""


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a rule, cached: every rule meets every name, and networks have more rules than ``re`` caches."""
    return re.compile(pattern)


def _leaves(target: Mapping[str, Any]) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Path without its collection -> (whole path, leaf)."""
    leaves: dict[str, tuple[tuple[str, ...], Any]] = {}
    for key, leaf in traverse_util.flatten_dict(dict(target)).items():
        path = "/".join(key[1:])
        if path in leaves:
            raise BadInput(f"{path} is in two collections: {leaves[path][0][0]} and {key[0]}")
        leaves[path] = (key, leaf)
    return leaves


def _table(faults: list[tuple[str, str]], unused: list[str], unfilled: list[str], count: int) -> str:
    """Return the faults, one a line, with the nearest name on the other side where something may have been meant.

    ``count`` is the number of leaves of the model.
    """
    import difflib

    many = f", which has {count}: are they of another network or size of it (`jaxseg list`)?"
    lines = [f"{len(faults)} weights do not fit the model" + (many if len(faults) > count / 2 else ":")]
    for number, (name, what) in enumerate(faults):
        other = unfilled if name in unused else unused if what.startswith("nothing") else []
        plain = {candidate.replace("/", "."): candidate for candidate in other}
        close = (
            difflib.get_close_matches(name.replace("/", "."), plain, n=1, cutoff=0.4)
            if number < MAX_SUGGESTIONS
            else []
        )
        lines.append(f"{name}: {what}" + (f"; nearest: {plain[close[0]]}" if close else ""))
    return "\n  ".join(lines)
