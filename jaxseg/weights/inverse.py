"""Invert rename rules: the source name that a rule's regex would match, derived from the path that it produces."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

from jaxseg.types import Rules


@dataclass(frozen=True)
class Group:
    r"""A group of a regex: its number (0 if it does not capture), its alternatives, and whether it is optional.

    >>> _parse(r"(?:module\.)?fc")[0]
    Group(number=0, inside='module\\.', optional=True)
    """

    number: int
    inside: str
    optional: bool


def source_name(path: str, rules: Rules, rename: Callable[[str], str | None]) -> str | None:
    r"""Return the name that the rules rename to ``path``, None if it cannot be derived.

    A rule is invertible if its regex consists of plain text and groups, and the path contains the groups. For a group
    that the path does not contain, the first alternative is used; for an optional one, nothing.

    >>> from jaxseg.weights.names import rename
    >>> rules = ((r"layer(1|2)\.weight", r"block\1/kernel"),)
    >>> source_name("block2/kernel", rules, lambda name: rename(name, rules))
    'layer2.weight'

    Args:
      path: of a leaf, without its collection.
      rules: see :mod:`jaxseg.weights.names`.
      rename: the forward direction; a name counts only if it leads to ``path``.
    """
    for pattern, template in rules:
        if template is None:
            continue
        parts, groups = _backwards(pattern, template.partition("|")[0])
        match = None if groups is None else groups.fullmatch(path)
        if match is None:
            continue
        values = {int(name[1:]): value for name, value in match.groupdict().items()}
        name = "".join(part if isinstance(part, str) else _written(part, values) for part in parts)
        if path in leads(rename(name)):
            return name
    return None


def leads(path: str | None) -> tuple[str, ...]:
    """Return the leaves that a rule's path names: itself, or one for each name in its braces, "" for an empty one.

    >>> leads("attention/{query,,value}/bias")
    ('attention/query/bias', '', 'attention/value/bias')
    """
    if not path:
        return ()
    braces = re.search(BRACES, path)
    if braces is None:
        return (path,)
    before, after = path[: braces.start()], path[braces.end() :]
    return tuple(f"{before}{part}{after}" if part else "" for part in braces[1].split(","))


BRACES = r"\{([^{}]*)\}"


def _written(group: Group, values: dict[int, str]) -> str:
    if group.number in values:
        return values[group.number]
    return "" if group.optional else _plain(group.inside.split("|")[0])


def _plain(pattern: str) -> str:
    return re.sub(r"\\(.)", r"\1", pattern)


@functools.cache
def _backwards(pattern: str, template: str) -> tuple[list[str | Group], re.Pattern[str] | None]:
    """Return the parts of a rule's regex and a pattern for its groups' values; None if it is not invertible."""
    parts = _parse(pattern)
    if parts is None:
        return [], None
    inside = {part.number: part for part in parts if isinstance(part, Group) and part.number}
    regex, seen = "", set()
    for text, number in re.findall(r"([^\\]*)(?:\\(\d+))?", template):
        regex += re.sub(r"\\{(.*?)\\}", lambda m: f"(?:{m[1].replace(',', '|')})", re.escape(text))
        if not number:
            continue
        if int(number) not in inside:
            return parts, None
        group = inside[int(number)]
        if number in seen:
            regex += f"(?P=g{number})"
        else:
            regex += f"(?P<g{number}>(?:{group.inside}){'?' if group.optional else ''})"
        seen.add(number)
    return parts, re.compile(regex)


def _parse(pattern: str) -> list[str | Group] | None:
    """Return plain text and groups in turn; None if there is anything else (a repetition, a character class)."""
    parts: list[str | Group] = []
    at = captured = 0
    while at < len(pattern):
        sign = pattern[at]
        if sign == "(":
            end = _closing(pattern, at)
            inside = pattern[at + 1 : end]
            silent = inside.startswith("?:")
            captured += not silent
            if inside.startswith("?") and not silent:
                return None
            at = end + 1
            optional = pattern[at : at + 1] == "?"
            at += optional
            parts.append(Group(0 if silent else captured, inside.removeprefix("?:"), optional))
            captured += 0 if silent else len(re.findall(r"(?<!\\)\((?!\?)", inside))
        elif sign == "\\" and not pattern[at + 1].isalnum():
            parts.append(pattern[at + 1])
            at += 2
        elif sign in "\\.[{^$|*+?":
            return None
        else:
            parts.append(sign)
            at += 1
        if pattern[at : at + 1] and pattern[at] in "*+?{":
            return None
    return parts


def _closing(pattern: str, begin: int) -> int:
    """Return the end of the group that begins there."""
    depth, at = 0, begin
    while True:
        sign = pattern[at]
        if sign == "\\":
            at += 1
        depth += (sign == "(") - (sign == ")")
        if not depth:
            return at
        at += 1
