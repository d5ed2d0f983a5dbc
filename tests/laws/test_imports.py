"""Imports flow down: each package may touch the packages below it, and nothing else."""

from tests.laws.tree import PACKAGE, imports, modules, name_of

BELOW: dict[str, set[str]] = {
    "errors": set(),
    "types": set(),
    "files": set(),
    "ops": {"types"},
    "layers": {"types", "ops"},
    "weights": {"types", "files"},
    "viz": {"types", "files", "ops.paste", "ops.lab"},
    "backbones": {"types", "ops", "layers", "weights", "registry"},
    "models": {"types", "ops", "layers", "weights", "backbones", "registry"},
    "registry": {"types", "models", "override"},
    "losses": {"types", "ops"},
    "metrics": {"types", "ops"},
    "tasks": {"types", "ops", "losses", "metrics"},
    "data": {"types", "files", "ops.rle", "ops.paste", "ops.geometry", "ops.lab"},
    "constructors": set(),
    "literals": {"types", "constructors"},
    "override": {"types", "literals"},
    "recipe_files": set(),
    "recipe": {"types", "override", "constructors", "recipe_files"},
    "forward": {"tasks.protocol"},
    "train": {"types", "files", "layers.norm", "forward", "recipe", "override", "tasks.protocol", "viz"},
    "report": {"types", "files", "forward", "metrics", "tasks.multitask", "tasks.protocol", "viz"},
    "export": {"types", "files", "forward", "ops.backend", "weights", "recipe", "registry", "tasks.protocol"},
}
"""What each package may import, and ``errors``; the command line, recipes and the package itself may import all."""

EVERYTHING = {"cli", "__init__", "__main__", "inference", "conversion", "configure", "analysis"}

BANNED: dict[str, set[str]] = {
    "types": {"jax", "flax", "optax", "orbax", "grain", "tensorflow_datasets"},
    "data": {"jax", "flax", "optax", "orbax", "jaxtyping"},
    "ops": {"flax", "optax", "orbax", "grain", "tensorflow_datasets"},
    "ops.rle": {"jax", "jaxlib", "jaxtyping", "scipy"},
    "ops.paste": {"jax", "jaxlib", "jaxtyping", "scipy"},
    "ops.geometry": {"jax", "jaxlib", "jaxtyping", "scipy"},
    "ops.lab": {"jax", "jaxlib", "jaxtyping", "scipy"},
    "layers": {"optax", "orbax", "grain", "tensorflow_datasets"},
    "backbones": {"optax", "orbax", "grain", "tensorflow_datasets"},
    "models": {"optax", "orbax", "grain", "tensorflow_datasets"},
    "losses": {"flax", "optax", "orbax", "grain", "tensorflow_datasets"},
    "metrics": {"flax", "optax", "orbax", "grain", "tensorflow_datasets"},
    "tasks": {"flax", "optax", "orbax", "grain", "tensorflow_datasets"},
}
"""Libraries that a package or a module must do without: data workers, and what they may use of the ops, stay free of
JAX, ops of parameters, networks of training."""

NOWHERE = {"tensorflow", "torch", "torchvision", "tf_keras", "keras"}

DESCENT: dict[str, set[str]] = {
    "detector": {"fast_rcnn", "faster_rcnn"},  # of UberNet
    "ubernet": {"detector"},
    "bayesian_segnet": {"segnet"},
    "crfrnn": {"fcn"},
    "deeplabv3": {"fcn"},
    "depth_anything": {"dpt"},
    "faster_rcnn": {"fast_rcnn"},
    "faster_rcnn_c4": {"faster_rcnn"},
    "faster_rcnn_vgg": {"fast_rcnn", "faster_rcnn"},
    "faster_rcnn_mobilenet": {"faster_rcnn"},
    "keypoint_rcnn": {"faster_rcnn"},
    "rcnn": {"fast_rcnn"},
    "mask_rcnn": {"faster_rcnn", "faster_rcnn_c4"},
    "mnc": {"fast_rcnn", "faster_rcnn", "faster_rcnn_c4"},
    "panoptic_fpn": {"faster_rcnn", "mask_rcnn"},
    "pyramid_heads": {"faster_rcnn", "mask_rcnn"},
    "yolo_fastest": {"yolo_v3"},
    "deeplabv3plus": {"deeplabv3"},
    "segnet_variants": {"segnet"},
    "ssd_mobilenet_v1": {"ssd", "ssdlite"},
    "ssdlite": {"ssd"},
    "upernet": {"pspnet"},
    "mmseg": {"pspnet"},
}
"""Papers that build on an earlier one, and may import its file: ``{"mask_rcnn": {"faster_rcnn"}}``."""

FILES = modules("jaxseg")


def package_of(module: str) -> str:
    """``jaxseg.ops.conv`` -> ``ops``; the top package itself is ``__init__``."""
    return module.split(".")[1] if "." in module else "__init__"


def permitted(module: str, packages: set[str]) -> bool:
    """Whether a dotted module lies in one of the packages, which may be named more finely: ``tasks.protocol``."""
    inner = module.removeprefix("jaxseg.")
    return any(inner == package or inner.startswith(package + ".") for package in packages)


def test_a_package_touches_only_what_lies_below_it():
    faults = []
    for path in FILES:
        package = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if package in EVERYTHING:
            continue
        if package not in BELOW:
            faults.append(f"{name_of(path)}: the plan knows no package {package!r}")
            continue
        allowed = BELOW[package] | {package, "errors"}
        for module, line in imports(path):
            inner = module == "jaxseg" or not module.startswith("jaxseg.") or permitted(module, allowed)
            # `from jaxseg.tasks import protocol` names the package on its way to the module
            on_the_way = any(f"jaxseg.{name}".startswith(module + ".") for name in allowed)
            if not inner and not on_the_way:
                faults.append(f"{name_of(path)}:{line} imports {module}; {package} may touch {sorted(allowed)}")
    assert len(FILES) > 10, "the law would hold of nothing"
    assert not faults, "\n".join(faults)


def test_libraries_keep_to_their_packages():
    faults = []
    for path in FILES:
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        banned = NOWHERE.union(*(BANNED.get(".".join(parts[:n]), set()) for n in range(1, len(parts) + 1)))
        faults += [f"{name_of(path)}:{line} imports {m}" for m, line in imports(path) if m.split(".")[0] in banned]
    assert not faults, "\n".join(faults)


def test_papers_import_each_other_by_descent_only():
    papers = {p.stem: p for p in FILES if p.parent.parent == PACKAGE / "models" and p.stem != "__init__"}
    faults = []
    for paper, path in papers.items():
        known = {m.split(".")[3] for m, _ in imports(path) if m.startswith("jaxseg.models.") and m.count(".") >= 3}
        sideways = (known & set(papers)) - {paper} - DESCENT.get(paper, set())
        faults += [f"{paper} imports {other}" for other in sorted(sideways)]
    assert papers, "no file under jaxseg/models/*/: the law would hold of nothing"
    assert not faults, "\n".join(faults)


def test_nothing_imports_the_command_line():
    inner = [path for path in FILES if "cli" not in path.relative_to(PACKAGE).parts and path.name != "__main__.py"]
    faults = [name_of(p) for p in inner if any(m.startswith("jaxseg.cli") for m, _ in imports(p))]
    assert not faults, f"these import jaxseg.cli: {faults}"
