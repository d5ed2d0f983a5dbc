"""Command line entry point: user errors are one line on stderr, without a traceback unless ``JAXSEG_TRACEBACK=1``.

Exit status: 0 success, 1 failed run, 2 bad input, 130 interrupted.
"""

import importlib
import os
import sys
from collections.abc import Sequence

import click

from jaxseg import __version__
from jaxseg.cli.runtime import keep_freed_memory
from jaxseg.errors import BadInput, FailedRun, suggest
from jaxseg.files import disk_is_full

VERBS = {
    "list": "List the models of the zoo.",
    "show": "Describe a model: paper, parameters, GFLOPs, receptive field, output stride, fields.",
    "data": "List, prepare, show or check data sets.",
    "new": "Write a recipe for a folder of images, every decision with its reason.",
    "train": "Train a recipe, or on a folder of images; resume an interrupted run.",
    "evaluate": "Evaluate a trained model on a split.",
    "predict": "Predict images: label maps, overlays and class areas.",
    "import": "Import third-party weights: PyTorch, safetensors, Caffe, Keras, TFLite, npz.",
    "export": "Export a trained model: StableHLO, safetensors, PyTorch, ONNX.",
}
"""Commands and their help. Each is a module of its name, imported when called."""

FILES = {"import": "import_"}
"""Module of a command whose name is reserved in Python."""


class Verbs(click.Group):
    """Group of all commands, imported on use so that ``--help`` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of a workflow."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Return the command; raise with the closest name if it is unknown."""
        if cmd_name not in VERBS:
            raise BadInput(f"there is no command {cmd_name!r}{suggest(cmd_name, VERBS)}")
        return importlib.import_module(f"jaxseg.cli.{FILES.get(cmd_name, cmd_name)}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the one-line descriptions without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="jaxseg", message="%(prog)s %(version)s")
@click.pass_context
def app(ctx: click.Context) -> None:
    """jaxseg: dense prediction in Flax that trains, evaluates and ships."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; ``argv`` defaults to the process's arguments."""
    if argv is None:
        keep_freed_memory()
    try:
        app.main(args=None if argv is None else list(argv), prog_name="jaxseg", standalone_mode=False)
    except Exception as error:
        if os.environ.get("JAXSEG_TRACEBACK", "0") not in ("", "0"):
            raise
        status, line = explain(error)
        click.echo(f"jaxseg: {line}", err=True)
        return status
    except KeyboardInterrupt:
        click.echo("jaxseg: interrupted; the same command goes on from the last checkpoint", err=True)
        return 130
    return 0


def explain(error: Exception) -> tuple[int, str]:
    """Return the exit status and the error message for the user."""
    if isinstance(error, click.Abort):
        return 130, "interrupted; the same command goes on from the last checkpoint"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return 2, f"{error.ctx.command_path if error.ctx else 'jaxseg'} needs arguments; --help lists them"
    if isinstance(error, click.ClickException):
        return 2, _line(error.format_message())
    if isinstance(error, BadInput):
        return 2, _line(str(error))
    if disk_is_full(error):
        return 1, f"the disk is full: {_line(str(error))}; free some space and start the same command again"
    if isinstance(error, FailedRun):
        return 1, _line(str(error))
    return 1, f"failed with {type(error).__name__}: {_line(str(error))} (JAXSEG_TRACEBACK=1 shows where)"


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 600 else f"{line[:597]}..."


if __name__ == "__main__":
    sys.exit(main())
