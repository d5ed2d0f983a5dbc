"""Read pickles as data: nothing that a pickle names is imported or called.

A pickle is a program for a small stack machine, and Python's own machine calls whatever the program names. This one
knows containers, numbers, strings and a table of allowed names given by the caller. Every other name, and whatever the
program would make of it, becomes an :class:`Opaque` that holds nothing: settings and dates beside weights are passed
over, while among the weights :func:`walk` refuses them.
"""

import pickletools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxseg.errors import BadInput

LARGEST_WALK = 1_000_000
"""Values that a file may hold; a few shared containers inside each other can stand for more than could be visited."""

DEEPEST = 64


@dataclass(frozen=True, eq=False)
class Word:
    """A name that a pickle may mention. ``call`` is our function for it; None if it is only mentioned.

    >>> import collections, io, pickle
    >>> file = io.BytesIO(pickle.dumps(collections.OrderedDict(a=1)))
    >>> load(file, {"collections.OrderedDict": Word("collections.OrderedDict", dict)})
    {'a': 1}
    """

    name: str
    call: Callable[..., Any] | None = None


class Unfinished:
    r"""An object that the pickle creates first and fills later; ``fill`` takes its state.

    >>> import io
    >>> class Version(Unfinished):
    ...     def fill(self, state):
    ...         self.number = state
    >>> file = io.BytesIO(b"cnet\nVersion\n)RK\x02b.")  # name, empty tuple, call, 2, build
    >>> load(file, {"net.Version": Word("net.Version", Version)}).number
    2
    """

    def fill(self, state: Any) -> None:
        """Set the state."""
        raise NotImplementedError


class Opaque(Unfinished):
    """Stand-in for an object of a class that weights do not need; it is never made, and its state is dropped.

    >>> import argparse, io, pickle
    >>> load(io.BytesIO(pickle.dumps({"args": argparse.Namespace(lr=0.1)})), {})["args"].name
    'argparse.Namespace'
    """

    def __init__(self, name: str):
        self.name = name

    def fill(self, state: Any) -> None:
        """Drop the state."""

    def __call__(self, *arguments: Any) -> "Opaque":
        """Return another stand-in, for what the object would return."""
        return self


def load(file: Any, words: Mapping[str, Word], persistent: Callable[[Any], Any] | None = None) -> Any:
    """Return the value of the pickle at the current position of ``file``, and leave the position after its end.

    >>> import io, pickle
    >>> load(io.BytesIO(pickle.dumps({"a": [1, 2.0]})), {})
    {'a': [1, 2.0]}

    Args:
      file: open for reading bytes.
      words: names that it may mention.
      persistent: converts a persistent id to a value; without it such ids are rejected.

    Raises:
      BadInput: the pickle does anything else. Damage raises Python's own errors.
    """
    machine = _Machine(words, persistent)
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "STOP":
            return machine.stack.pop()
        machine.step(opcode.name, argument)
    raise EOFError("the pickle has no end")


class _Machine:
    """The stack, the marks (each a stack that was laid aside) and the memo."""

    def __init__(self, words: Mapping[str, Word], persistent: Callable[[Any], Any] | None):
        self.words, self.persistent = words, persistent
        self.stack: list[Any] = []
        self.aside: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Run one instruction."""
        if name in PUSHES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in EMPTY:
            self.stack.append(EMPTY[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise BadInput(f"its pickle holds the instruction {name}, which weights do not need")

    def pop_to_mark(self) -> list[Any]:
        """Return what was pushed since the last mark."""
        items, self.stack = self.stack, self.aside.pop()
        return items

    def collect(self, make: Callable[[list[Any]], Any]) -> None:
        """Replace what was pushed since the last mark by one container."""
        items = self.pop_to_mark()
        self.stack.append(make(items))

    def mark(self, _: Any) -> None:
        self.aside.append(self.stack)
        self.stack = []

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def put(self, key: Any) -> None:
        self.memo[int(key)] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, key: Any) -> None:
        self.stack.append(self.memo[int(key)])

    def tuple_of(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def append(self, _: Any) -> None:
        value = self.stack.pop()
        self._extend([value])

    def appends(self, _: Any) -> None:
        self._extend(self.pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], Opaque):
            _list(self.stack[-1]).extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([(key, value)])

    def set_items(self, _: Any) -> None:
        self._set(_pairs(self.pop_to_mark()))

    def _set(self, items: Any) -> None:
        if not isinstance(self.stack[-1], Opaque):
            _fill(self.stack[-1], items)

    def name(self, argument: Any) -> None:
        self.stack.append(self._find(str(argument).replace(" ", ".")))

    def name_from_stack(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self._find(f"{module}.{name}"))

    def call(self, _: Any) -> None:
        arguments, word = self.stack.pop(), self.stack.pop()
        if isinstance(word, Opaque):
            self.stack.append(word)
            return
        if not isinstance(word, Word) or word.call is None or not isinstance(arguments, tuple):
            raise BadInput(f"its pickle calls {getattr(word, 'name', type(word).__name__)}, which weights do not need")
        self.stack.append(word.call(*arguments))

    def new(self, arguments: int) -> None:
        """Stand in for a new object of a class; those that weights need are made by calls."""
        values = [self.stack.pop() for _ in range(arguments)]
        if not isinstance(values[-1], Opaque):
            raise BadInput("its pickle makes an object of a class, which weights do not need")
        self.stack.append(values[-1])

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Unfinished):
            target.fill(state)
        elif not isinstance(target, dict):  # attributes of a dict (torch's _metadata) carry no weights
            raise BadInput(f"its pickle sets attributes of a {type(target).__name__}, which weights do not need")

    def persistent_id(self, _: Any) -> None:
        if self.persistent is None:
            raise BadInput("its pickle refers to data outside itself, which this format does not have")
        self.stack.append(self.persistent(self.stack.pop()))

    def _find(self, name: str) -> Word | Opaque:
        return self.words.get(name) or Opaque(name)


PUSHES = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": _Machine.mark,
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.pop_to_mark(),
    "DUP": _Machine.duplicate,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": _Machine.memoize,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.collect(tuple),
    "LIST": lambda machine, _: machine.collect(list),
    "FROZENSET": lambda machine, _: machine.collect(list),
    "DICT": lambda machine, _: machine.collect(lambda items: _fill({}, _pairs(items))),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_from_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": lambda machine, _: machine.new(2),
    "NEWOBJ_EX": lambda machine, _: machine.new(3),
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}
"""Every instruction that is obeyed; sets become lists."""


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"items appended to a {type(value).__name__}")
    return value


def _pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _fill(target: Any, items: Any) -> dict[Any, Any]:
    """Set keys of a dict; only plain keys, since hashing nested tuples can take forever."""
    if not isinstance(target, dict):
        raise TypeError(f"keys set in a {type(target).__name__}")
    for key, value in items:
        if not isinstance(key, str | bytes | int | float | None):
            raise TypeError(f"a {type(key).__name__} as a key")
        target[key] = value
    return target


def mapping(*arguments: Any) -> dict[Any, Any]:
    """Return the stand-in for ``OrderedDict``, ``defaultdict`` and ``Counter``: pairs or a dict, after a factory.

    >>> mapping([("a", 1)]), mapping(None, {"a": 1})
    ({'a': 1}, {'a': 1})
    """
    values = [value for value in arguments if value is not None and not isinstance(value, Word)]
    inside = values[0] if values else {}
    return _fill({}, inside.items() if isinstance(inside, dict) else inside)


BUILTINS = ("builtins", "__builtin__")

CONTAINERS = {
    word.name: word
    for word in (
        Word("collections.OrderedDict", mapping),
        Word("collections.defaultdict", mapping),
        Word("collections.Counter", mapping),
        *(Word(f"{module}.set", list) for module in BUILTINS),
        *(Word(f"{module}.{name}") for module in BUILTINS for name in ("dict", "list", "int", "float")),
    )
}
"""Containers of Python's own that state dicts are made of."""


class _Dtype(Unfinished):
    """A NumPy dtype; the state gives its byte order. ``dtype`` is None where it is not of real numbers."""

    def __init__(self, code: Any, *_: Any):
        code = code.decode("ascii") if isinstance(code, bytes) else str(code)
        self.name = f"an array of dtype {code[:40]}"
        self.dtype = np.dtype(code) if re.fullmatch(r"[<>|=]?([fiu][1248]|b1)", code) else None

    def fill(self, state: Any) -> None:
        if self.dtype is not None and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class Pickled(Unfinished):
    """A NumPy array, ``array`` once it is filled.

    >>> import io, pickle
    >>> load(io.BytesIO(pickle.dumps(np.arange(3))), NUMPY).array.tolist()
    [0, 1, 2]
    """

    def __init__(self, *_: Any):
        self.array: np.ndarray | None = None
        self.name = "an array"

    def fill(self, state: Any) -> None:
        """Set version, shape, dtype, order and bytes."""
        _, shape, kind, fortran, raw = state
        if not isinstance(kind, _Dtype):
            raise TypeError("an array without a dtype")
        self.name = kind.name
        if kind.dtype is None:  # of strings or objects: no weights
            return
        flat = np.frombuffer(raw.encode("latin-1") if isinstance(raw, str) else raw, kind.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C")


def _from_buffer(raw: Any, kind: Any, shape: Any, order: Any, *_: Any) -> Pickled:
    made = Pickled()
    made.fill((1, shape, kind, order == "F", bytes(raw)))
    return made


def _scalar(kind: Any, raw: Any = b"") -> Any:
    if kind.dtype is None:
        return Opaque(kind.name)
    return np.frombuffer(raw.encode("latin-1") if isinstance(raw, str) else raw, kind.dtype)[0].item()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise BadInput(f"its pickle asks for the encoding {str(encoding)[:40]!r}, which weights do not need")
    return text.encode("latin-1")


NUMPY = {
    word.name: word
    for word in (
        Word("numpy.dtype", _Dtype),
        Word("numpy.ndarray"),
        Word("_codecs.encode", _encode),
        *(Word(f"numpy.{core}.multiarray._reconstruct", Pickled) for core in ("core", "_core")),
        *(Word(f"numpy.{core}.numeric._frombuffer", _from_buffer) for core in ("core", "_core")),
        *(Word(f"numpy.{core}.multiarray.scalar", _scalar) for core in ("core", "_core")),
    )
}
"""NumPy arrays and scalars, as Detectron's files hold them."""


def walk(tree: Any, leaf: tuple[type, ...], axes: Callable[[Any], int] = np.ndim) -> dict[str, Any]:
    """Return the leaves of those types by name, nested containers joined by dots; other values are left out.

    Args:
      tree: what a pickle held.
      leaf: types of the leaves.
      axes: number of axes of a leaf: what lies beside scalars is not among weights yet.

    >>> walk({"layer": {"kernel": 1.0}, "step": "x", "args": Opaque("argparse.Namespace")}, (float,))
    {'layer.kernel': 1.0}

    Raises:
      BadInput: the tree contains itself, has too many values, holds an object of an unknown class among its weights, or
        such objects alone.
    """
    found: dict[str, Any] = {}
    foreign: list[str] = []
    todo: list[tuple[tuple[str, ...], Any, bool]] = [((), tree, False)]
    visited = 0
    while todo:
        path, value, among = todo.pop()
        visited += 1
        if visited > LARGEST_WALK or len(path) > DEEPEST:
            raise BadInput("it holds containers inside each other without an end")
        if isinstance(value, Opaque) or (isinstance(value, Pickled) and value.array is None):
            foreign.append(value.name)
            if among:
                raise BadInput(_foreign(value.name, ".".join(path)))
        elif isinstance(value, leaf):
            name = ".".join(path)
            if name in found:
                raise BadInput(f"it holds {name[:80]!r} twice")
            found[name] = value
        elif isinstance(value, dict):
            among = among or any(isinstance(inside, leaf) and _has_axes(inside, axes) for inside in value.values())
            todo += [((*path, str(name)), inside, among) for name, inside in reversed(value.items())]
        elif isinstance(value, list | tuple):
            todo += [((*path, str(i)), value[i], among) for i in reversed(range(len(value)))]
    if foreign and not found:
        raise BadInput(_foreign(foreign[0], ""))
    return found


def _has_axes(value: Any, axes: Callable[[Any], int]) -> bool:
    return not (isinstance(value, Pickled) and value.array is None) and axes(value) > 0


def _foreign(name: str, where: str) -> str:
    among = f" among its weights, as {where[:80]!r}" if where else ""
    return (
        f"its pickle names {name[:80]!r}{among}, which is neither a tensor, a container nor a number; nothing was run "
        "(save the state_dict alone)"
    )
