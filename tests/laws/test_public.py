"""Public functions are typed and documented, show their use, and follow the house's conventions for arguments."""

import ast

from tests.laws.tree import PACKAGE, modules, name_of, parse

INTERNAL = ("jaxseg/ops/cpu", "jaxseg/ops/xla.py", "jaxseg/ops/roi_forms.py", "jaxseg/ops/roi_samples.py")
"""Forms that public operations select from, and parts of them: the operations have the examples."""

FILES = [path for path in modules("jaxseg") if not path.name.startswith("_") or path.name == "__init__.py"]


def public(path):
    """Public functions and methods of a file as (qualified name, node, whether a method), and public classes."""
    todo = [("", parse(path), False)]
    while todo:
        prefix, parent, inside = todo.pop()
        for node in ast.iter_child_nodes(parent):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_") and node.name != "__call__":
                continue
            yield prefix + node.name, node, inside
            if isinstance(node, ast.ClassDef):
                todo.append((f"{prefix}{node.name}.", node, True))


def parameters(node, method):
    """The arguments without self or cls; a static method has neither."""
    arguments = [*node.args.posonlyargs, *node.args.args]
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    return arguments[1:] if method and not static else arguments


def functions(path):
    return [(name, node, method) for name, node, method in public(path) if not isinstance(node, ast.ClassDef)]


def test_documented():
    faults = [f"{name_of(path)} has no docstring" for path in FILES if not ast.get_docstring(parse(path))]
    for path in FILES:
        for name, node, _ in public(path):
            overrides = any(isinstance(d, ast.Name) and d.id in {"override", "overload"} for d in node.decorator_list)
            if not overrides and node.name != "__call__" and not ast.get_docstring(node):
                faults.append(f"{name_of(path)}:{node.lineno} {name} has no docstring")
    assert not faults, "\n".join(faults)


def test_typed():
    faults = []
    for path in FILES:
        for name, node, method in functions(path):
            arguments = [*parameters(node, method), *node.args.kwonlyargs]
            arguments += [a for a in (node.args.vararg, node.args.kwarg) if a is not None]
            untyped = [a.arg for a in arguments if a.annotation is None] + ([] if node.returns else ["return"])
            if untyped:
                faults.append(f"{name_of(path)}:{node.lineno} {name}: no type for {', '.join(untyped)}")
    assert not faults, "\n".join(faults)


def test_key_comes_first_and_train_is_a_keyword():
    faults = []
    for path in FILES:
        for name, node, method in functions(path):
            positional = [a.arg for a in parameters(node, method)]
            types = {a.arg: ast.unparse(a.annotation) for a in parameters(node, method) if a.annotation}
            if "key" in positional and "str" not in types.get("key", "") and positional[0] != "key":
                faults.append(f"{name_of(path)}:{node.lineno} {name}: the key comes first")
            if "train" in positional:
                faults.append(f"{name_of(path)}:{node.lineno} {name}: train is keyword-only")
    assert not faults, "\n".join(faults)


def called(node):
    """The names of a definition's bases and decorators: ``register`` of ``@register(task="semantic")``."""
    expressions = [*getattr(node, "bases", ()), *node.decorator_list]
    heads = [e.func if isinstance(e, ast.Call) else e.value if isinstance(e, ast.Subscript) else e for e in expressions]
    return {ast.unparse(head).rpartition(".")[2] for head in heads}


def without_example(path):
    """Public functions and classes at the top of a file that show no use of themselves.

    A class may show it in a method. Protocols have nothing to run, errors are raised by others, and of a registered
    network ``create_model`` is the example, as :func:`jaxseg.viz.draw` is of a painter.
    """
    for node in parse(path).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if called(node) & {"Protocol", "Exception", "ValueError", "RuntimeError", "register", "painter", "overload"}:
            continue
        inside = [n for n in ast.walk(node) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        if not any(">>>" in (ast.get_docstring(n) or "") for n in inside):
            yield f"{name_of(path)}:{node.lineno} {node.name}"


def test_public_names_have_an_example():
    missing = []
    for path in FILES:
        package = path.relative_to(PACKAGE).with_suffix("").parts[0]
        internal = name_of(path).startswith(INTERNAL)
        if package != "cli" and not internal:  # commands have their examples in the documentation
            missing += without_example(path)
    assert FILES
    assert not missing, "no example (>>>): " + "\n".join(missing)
