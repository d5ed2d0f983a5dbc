"""The command line: one line on stderr for a mistake, never a traceback (unless ``JAXSEG_TRACEBACK=1`` asks for it).

Exit status: 0 success, 1 a run that failed, 2 bad input, 130 interrupted.
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
    "list": "The models of the zoo.",
    "show": "One model: paper, parameters, GFLOPs, receptive field, output stride, fields.",
    "data": "The data sets: list them, prepare one, show one.",
    "train": "Train a recipe; the same command resumes a run that was interrupted.",
    "evaluate": "Measure a trained model on a split.",
    "predict": "Label images: label maps, overlays and class areas.",
    "import": "Bring weights of others into a model: torch, safetensors, Caffe, Keras, npz.",
    "export": "Hand a model on: StableHLO, safetensors, torch, ONNX.",
}
"""Each verb lives in the file of its name and is imported only when it is called."""

FILES = {"import": "import_"}
"""But for the one that is a word of Python's."""


class Verbs(click.Group):
    """The group of all verbs, each imported when needed, so that ``--help`` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order in which one needs them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """The verb of that name; an unknown one is refused with the nearest offered."""
        if cmd_name not in VERBS:
            raise BadInput(f"there is no command {cmd_name!r}{suggest(cmd_name, VERBS)}")
        return importlib.import_module(f"jaxseg.cli.{FILES.get(cmd_name, cmd_name)}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs' one-line descriptions without importing them."""
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
    """Run one command and return its exit status; ``argv`` defaults to the process's own arguments."""
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
    """Exit status and the one line that a user reads."""
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
