"""Rules read backwards: the source name that a rule's regex would match, written down from the path that it gives."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from jaxseg.types import Rules


@dataclass(frozen=True)
class Group:
    """A group of a regex: its number (0 if it does not capture), what is inside, and whether it may be absent."""

    number: int
    inside: str
    optional: bool


def source_name(path: str, rules: Rules, rename: Callable[[str], str | None]) -> str | None:
    """The name that the rules turn into ``path``, None where none can be written down.

    A rule can be read backwards if its regex consists of plain text and groups, and the path names the groups. Of a
    group that the path does not name the first alternative is written, of an optional one nothing.

    Args:
      path: to a leaf, without its collection.
      rules: see :mod:`jaxseg.weights.names`.
      rename: the way forth; a name counts only if it leads to ``path``.
    """
    for pattern, template in rules:
        if template is None:
            continue
        parts = _parse(pattern)
        values = None if parts is None else _groups(path, template.partition("|")[0], parts)
        if parts is None or values is None:
            continue
        name = "".join(part if isinstance(part, str) else _written(part, values) for part in parts)
        if rename(name) == path:
            return name
    return None


def _written(group: Group, values: dict[int, str]) -> str:
    if group.number in values:
        return values[group.number]
    return "" if group.optional else _plain(group.inside.split("|")[0])


def _plain(pattern: str) -> str:
    return re.sub(r"\\(.)", r"\1", pattern)


def _groups(path: str, template: str, parts: list[str | Group]) -> dict[int, str] | None:
    """The groups' values in a path that was made from the template; None if it was not."""
    inside = {part.number: part for part in parts if isinstance(part, Group) and part.number}
    regex, seen = "", set()
    for text, number in re.findall(r"([^\\]*)(?:\\(\d+))?", template):
        regex += re.escape(text)
        if not number:
            continue
        if int(number) not in inside:
            return None
        group = inside[int(number)]
        if number in seen:
            regex += f"(?P=g{number})"
        else:
            regex += f"(?P<g{number}>(?:{group.inside}){'?' if group.optional else ''})"
        seen.add(number)
    match = re.fullmatch(regex, path)
    return None if match is None else {int(n): match[f"g{n}"] for n in seen}


def _parse(pattern: str) -> list[str | Group] | None:
    """Plain text and groups in turn; None where there is anything else (a repetition, a class of characters)."""
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
    """Where the group that begins there ends."""
    depth, at = 0, begin
    while True:
        sign = pattern[at]
        if sign == "\\":
            at += 1
        depth += (sign == "(") - (sign == ")")
        if not depth:
            return at
        at += 1
