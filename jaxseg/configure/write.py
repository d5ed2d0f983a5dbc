"""Write a plan as a recipe: plain Python, each decision with its reason above it."""

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from jaxseg.configure.choose import Plan
from jaxseg.configure.decide import Decision
from jaxseg.configure.look import Look

MODULES = {
    "WeightsFrom": "jaxseg.conversion.initial",
    "Data": "jaxseg.data",
    "Source": "jaxseg.data",
    **dict.fromkeys(
        (
            "BalancedCrop",
            "Canvas",
            "CentreCrop",
            "LargeScaleJitter",
            "PadTo",
            "Photometric",
            "RandomCrop",
            "RandomFlip",
            "RandomRotate90",
            "RandomScale",
            "RandomZoom",
            "ResizeWithin",
        ),
        "jaxseg.data.transforms",
    ),
    "DenseHeads": "jaxseg.layers.dense_heads",
    "DepthHead": "jaxseg.layers.dense_heads",
    "Proposing": "jaxseg.layers.rpn",
    "Standardize": "jaxseg.layers.standardize",
    "CrossEntropy": "jaxseg.losses",
    "Dice": "jaxseg.losses",
    "L1Log": "jaxseg.losses",
    "ScaleInvariant": "jaxseg.losses",
    "Recipe": "jaxseg.recipe",
    "Stage": "jaxseg.recipe",
    "create_model": "jaxseg.registry",
    "Depth": "jaxseg.tasks.depth",
    "Detection": "jaxseg.tasks.detection",
    "Instance": "jaxseg.tasks.instance",
    "Semantic": "jaxseg.tasks.semantic",
    "layer_decay": "jaxseg.train.layer_decay",
    "AdamW": "jaxseg.train.optim",
    "OneCycle": "jaxseg.train.optim",
}
"""Where the names of a recipe come from; only those that it uses are imported."""

WIDTH = 120


def write(plan: Plan, *, name: str, command: str) -> str:
    """Return the recipe of a plan as the text of a Python file.

    >>> from jaxseg.configure.choose import choose
    >>> from jaxseg.configure.decide import Wishes
    >>> from jaxseg.data import Facts
    >>> facts = Facts("cells", "", ("background", "cell"), ((0, 0, 0), (255, 0, 0)), {})
    >>> sizes, share = ((64, 64),), (0.9, 0.1)
    >>> look = Look("cells", (), facts, "train", "val", 30, sizes, sizes, share=share, extent=share)
    >>> text = write(choose(look, Wishes("unet", steps=50, batch_size=4)), name="cells", command="jaxseg new cells")
    >>> compile(text, "recipe.py", "exec") is not None
    True

    Args:
      plan: from :func:`jaxseg.configure.choose.choose`.
      name: of the recipe.
      command: that wrote it.
    """
    body, docstring = _body(plan, name), _docstring(plan, command)
    raw = "r" if "\\" in docstring else ""
    return f'{raw}"""{docstring}"""\n\n{_imports(body)}\n{body}'


def _docstring(plan: Plan, command: str) -> str:
    look, model = plan.look, plan.wishes.model
    head = f"{model} on {look.dataset.rpartition('/')[2] or look.dataset}: a start, of which every line may be changed."
    bands = f"{look.bands} band{'s' * (look.bands != 1)} of {look.dtype}"
    facts = (
        f"Data: {look.images} training images ({_sizes(look)}, {bands}), {_learnt(plan)}; "
        f"{look.looked_at} of them were looked at"
    )
    wrap = textwrap.TextWrapper(WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n\n".join((head, "\n".join((wrap.fill(facts), wrap.fill(f"Written by: {command}"))))) + "\n"


def _learnt(plan: Plan) -> str:
    """Return what is learnt in a few words."""
    depth = plan.look.depth
    if plan.depth is not None and depth is not None:
        return f"depth of {depth.metres[0]:g} to {depth.metres[2]:g} m, {100 * depth.missing:.3g} % of it missing"
    facts = plan.look.facts
    return f"{facts.num_classes if plan.objects is None else len(facts.things)} classes"


def _sizes(look: Look) -> str:
    smallest, largest = look.sizes[0], look.sizes[-1]
    span = f"{smallest[0]}x{smallest[1]}"
    return span if len(look.sizes) == 1 else f"{len(look.sizes)} sizes from {span} to {largest[0]}x{largest[1]}"


def _imports(body: str) -> str:
    by_module: dict[str, list[str]] = {}
    for name, module in MODULES.items():
        if re.search(rf"\b{name}(\(|\.for_model)", body):
            by_module.setdefault(module, []).append(name)
    lines = [f"from {module} import {', '.join(names)}" for module, names in sorted(by_module.items())]
    if "jnp." in body:
        lines = ["import jax.numpy as jnp", "", *lines]
    if re.search(r"\breplace\(", body):
        lines = ["from dataclasses import replace", "", *lines]
    return "\n".join(lines) + "\n"


def _body(plan: Plan, name: str) -> str:
    optional = (
        *((_field("freeze", plan.freeze),) if plan.freeze is not None else ()),
        *((_field("patience", Decision(str(plan.wishes.patience), "asked for")),) if plan.wishes.patience else ()),
    )
    figure = plan.objects.best if plan.objects is not None else "delta1" if plan.depth is not None else ""
    best = (f'        keep_best="{figure}",',) if figure else ()
    task = _objects if plan.objects is not None else _depth if plan.depth is not None else _semantic
    parts = (
        *("", "def recipe() -> Recipe:", f'    """Train {plan.wishes.model} on {_learnt(plan).split(",")[0]}."""'),
        *_transforms("augment", plan.train),
        *(_transforms("judged", plan.val) if plan.val else ()),
        *_data(plan),
        *_model(plan),
        *task(plan),
        *_optimizer(plan),
        "    stage = Stage(",
        *("        model=model,", "        task=task,", "        data=data,", "        optimizer=optimizer,"),
        _field("steps", plan.steps),
        _field("batch_size", plan.batch_size),
        _field("eval_batch_size", plan.eval_batch_size),
        _field("ema", plan.ema),
        "        log_every=20,",
        _field("eval_every", plan.every),
        f"        save_every={plan.every.text},",
        *best,
        _field("init", plan.init),
        *optional,
        "    )",
        f'    return Recipe(stages=(stage,), name="{name}")',
    )
    return "\n".join(parts) + "\n"


def _data(plan: Plan) -> list[str]:
    look = plan.look
    options = f", {literal(look.options)}" if look.options else ""
    objects: list[str] = []
    if plan.objects is not None:
        objects = [f"        keys={literal(plan.objects.keys)},", _field("slots", plan.objects.slots)]
    if plan.depth is not None:
        objects = [f"        keys={literal(plan.depth.keys)},"]
    return [
        f"    dataset = {literal(look.dataset)}",
        "    data = Data(",
        f'        train=Source(dataset, "{look.train}", augment{options}),',
        f'        val=Source(dataset, "{look.val}"{_val(plan)}{options}),',
        *objects,
        "    )",
    ]


def _model(plan: Plan) -> list[str]:
    """Return the lines of the model, with what is changed in it once it is built."""
    head = None if plan.depth is None else plan.depth.head
    found = [f"    {'model' if head is None else 'network'} = create_model(", f'        "{plan.wishes.model}",']
    found += [_line(Decision(f"{field}={value.text}", value.why), 8) for field, value in plan.fields.items()]
    found += ["    )"]
    if head is not None:
        found += [_comment(head.why, 4), f"    model = DenseHeads(network, ({head.text},))"]
    if plan.objects is None:
        return found
    changes = plan.objects.changes
    if changes:
        fields = [_line(Decision(f"{field}={value.text}", value.why), 8) for field, value in changes.items()]
        found += ["    model = model.clone(", *fields, "    )"]
    backbone = plan.objects.backbone
    if backbone is not None:
        found += [f"    # {backbone.why}", f"    model = model.clone(backbone=model.backbone.clone({backbone.text}))"]
    return found


def _semantic(plan: Plan) -> list[str]:
    facts = plan.look.facts
    return [
        "    task = Semantic(",
        f"        num_classes={facts.num_classes},",
        "        losses=(",
        *(_line(loss, 12) for loss in plan.losses),
        "        ),",
        *_classes(facts.classes),
        "    )",
    ]


def _depth(plan: Plan) -> list[str]:
    return ["    task = Depth(", "        losses=(", *(_line(loss, 12) for loss in plan.losses), "        ),", "    )"]


def _objects(plan: Plan) -> list[str]:
    """Return the lines of a detector's task; the network says which losses it is trained by."""
    assert plan.objects is not None
    names = _classes(plan.look.facts.things)
    found = [f"    task = {plan.objects.task}.for_model(", "        model,", *names, "    )"]
    most = plan.objects.max_detections
    if most is not None:
        found += [f"    # {most.why}", f"    task = replace(task, max_detections={most.text})"]
    return found


def _optimizer(plan: Plan) -> list[str]:
    multipliers = plan.multipliers
    clip, why = ("clip=1.0", "a single odd batch moves the weights no further than others")
    if plan.objects is not None:
        clip = "clip=5.0"
    return [
        "    optimizer = AdamW(",
        _line(plan.rate, 8),
        _line(Decision("weight_decay=0.01", "shrinks kernels, and nothing else"), 8),
        '        no_decay=(r"(bias|scale)$",),',
        *([] if multipliers is None else [_line(Decision(f"lr_multipliers={multipliers.text}", multipliers.why), 8)]),
        _line(Decision(clip, why), 8),
        "    )",
    ]


def _val(plan: Plan) -> str:
    if plan.val:
        return ", judged"
    return ", ()" if plan.look.options else ""


def _transforms(name: str, transforms: Sequence[Decision]) -> list[str]:
    return [f"    {name} = (", *(_line(transform, 8) for transform in transforms), "    )"]


def _classes(classes: tuple[str, ...]) -> list[str]:
    """Return the names of the classes, as many on a line as fit."""
    line = f"        classes={literal(classes)},"
    if len(line) <= WIDTH:
        return [line]
    return ["        classes=(", *(f"            {literal(name)}," for name in classes), "        ),"]


def literal(value: Any) -> str:
    """Return a string, number or tuple of those as a formatter would write it.

    >>> literal(("a", 1))
    '("a", 1)'
    """
    if isinstance(value, str):
        return repr(value) if '"' in value or "\\" in value else f'"{value}"'
    if isinstance(value, tuple | list):
        return f"({', '.join(map(literal, value))}{',' * (len(value) == 1)})"
    return repr(value)


def _field(name: str, decision: Decision) -> str:
    return _line(Decision(f"{name}={decision.text}", decision.why), 8)


def _line(decision: Decision, indent: int) -> str:
    """Return the reason as a comment, and the value on its own line below it; beside it where both are short."""
    margin = " " * indent
    beside = f"{margin}{decision.text},  # {decision.why}"
    if len(beside) <= 100:
        return beside
    return f"{_comment(decision.why, indent)}\n{margin}{decision.text},"


def _comment(why: str, indent: int) -> str:
    """Return a reason as lines of comment."""
    margin = f"{' ' * indent}# "
    wrap = textwrap.TextWrapper(
        WIDTH, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )
    return wrap.fill(why)
