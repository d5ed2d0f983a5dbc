"""The table of export formats: for each its writer, its check against the model, and the options that it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxseg.errors import BadInput, suggest
from jaxseg.export import folder, onnx, stablehlo, torch
from jaxseg.export.differences import probe_picture
from jaxseg.export.folder import Card
from jaxseg.types import Rules
from jaxseg.weights.names import kept_elsewhere


@dataclass(frozen=True)
class Export:
    """One export.

    Attributes:
      path: the file or folder to write.
      card: of the model.
      variables: of the model, NumPy arrays.
      example: shape of one small image that the model takes, b h w c.
      rules: returns the rules that import the model's weights, by implementation.
      size: height and width of the images, None for any.
      implementation: whose names the arrays get, None for the first that there are.

    >>> Export(Path("a.onnx"), None, {}, (1, 64, 64, 3), rules=dict).size is None
    True
    """

    path: Path
    card: Card | Any
    variables: Any
    example: tuple[int, ...]
    rules: Callable[[], Mapping[str, Rules]]
    size: tuple[int, int] | None = None
    implementation: str | None = None

    @property
    def chosen(self) -> str:
        """The implementation whose names the arrays get.

        Raises:
          BadInput: there are no rules for it.
        """
        known = self.rules()
        name = next(iter(known)) if self.implementation is None else self.implementation
        if name not in known:
            raise BadInput(f"there are no names of {name!r} for this model{suggest(name, known)}")
        return name


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
      name: of the format.
      write: writes the file and returns a line that describes it, "" for none.
      verify: returns the largest difference between what the file gives and what the model gives.
      options: of :class:`Export` that the format takes.
      folders: a folder may be written instead of a file.

    >>> FORMATS["torch"].options
    ('implementation',)
    """

    name: str
    write: Callable[[Export], str]
    verify: Callable[[Export], float]
    options: tuple[str, ...] = ()
    folders: bool = False


def export(form: str, job: Export) -> tuple[str, float]:
    """Write a model in a format of :data:`FORMATS` and compare the file with the model.

    Returns:
      A line that describes the file, "" for none, and the largest difference.

    Raises:
      BadInput: there is no such format, or it does not take the options or the path.
      FailedRun: the model could not be translated.

    >>> export("tflite", Export(Path("a"), None, {}, (1, 64, 64, 3), rules=dict))
    Traceback (most recent call last):
    jaxseg.errors.BadInput: there is no format 'tflite'; there are: onnx, safetensors, stablehlo, torch
    """
    if form not in FORMATS:
        raise BadInput(f"there is no format {form!r}{suggest(form, FORMATS)}")
    chosen = FORMATS[form]
    for option in ("size", "implementation"):
        if option not in chosen.options and (job.size if option == "size" else job.implementation) is not None:
            able = [name for name, other in FORMATS.items() if option in other.options]
            raise BadInput(f"{form} takes no {FLAGS[option]}; it belongs to {' and '.join(able)}")
    if job.path.is_dir() and not chosen.folders:
        raise BadInput(f"{job.path} is a folder; give the name of a file")
    return chosen.write(job), chosen.verify(job)


FLAGS = {"size": "--size", "implementation": "--to"}
"""Options of the command line by the attribute of :class:`Export` that they set."""


def _write_safetensors(job: Export) -> str:
    folder.write(job.path, job.card, job.variables)
    return ""


def _write_stablehlo(job: Export) -> str:
    shape = stablehlo.write(job.path, job.card, job.variables, size=job.size, channels=job.example[-1])
    return f"takes u8[{shape}], on {', '.join(stablehlo.PLATFORMS)}"


def _verify_stablehlo(job: Export) -> float:
    sides = job.size or job.example[1:3]
    if job.size is None and stablehlo.takes_any_size(job.path):
        sides = (sides[0] + 3, sides[1] + 11)  # odd, so that what pads and crops is seen too
    return stablehlo.verify(job.path, job.card, job.variables, probe_picture(2, sides[0], sides[1], job.example[-1]))


def _write_torch(job: Export) -> str:
    rules = job.rules()[job.chosen]
    torch.write(job.path, job.variables, rules)
    kept = kept_elsewhere(rules)
    if not kept:
        return f"names of {job.chosen}"
    parts = " and ".join(kept)
    return f"names of {job.chosen}, but for {parts}, never used there: load_state_dict(state, strict=False)"


def _verify_torch(job: Export) -> float:
    return torch.verify(job.path, job.variables, job.rules()[job.chosen])


def _write_onnx(job: Export) -> str:
    if job.size is None:
        raise BadInput("an ONNX file is of one size of image: --size HEIGHT WIDTH")
    return f"takes u8[{onnx.write(job.path, job.card, job.variables, size=job.size, channels=job.example[-1])}]"


def _verify_onnx(job: Export) -> float:
    return onnx.verify(job.path, job.card, job.variables)


FORMATS: Mapping[str, Format] = {
    form.name: form
    for form in (
        Format("safetensors", _write_safetensors, lambda job: folder.verify(job.path, job.variables), folders=True),
        Format("stablehlo", _write_stablehlo, _verify_stablehlo, options=("size",)),
        Format("torch", _write_torch, _verify_torch, options=("implementation",)),
        Format("onnx", _write_onnx, _verify_onnx, options=("size",)),
    )
}
"""The formats by name."""
