"""The command line. A command is a file here; it is imported when it is called."""

from __future__ import annotations

import importlib
import io
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import click

from kfeat.errors import InputError, on_one_line

COMMANDS = {
    "train": "Train an encoder and export it.",
    "export": "Export a trained encoder as a SavedModel.",
    "score": "Score the features of an encoder.",
    "plot": "Draw one figure of a score.",
    "reproduce": "Repeat the study that kfeat implements.",
    "data": "List, show and add data sets.",
    "models": "List and show the encoders.",
}


class Commands(click.Group):
    """Commands by name, each imported only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one command."""
        if name not in COMMANDS:
            return None
        command = importlib.import_module(f"kfeat.cli.{name}").command
        for each in (command, *getattr(command, "commands", {}).values()):
            for param in each.params:
                param.callback = param.callback or refuse_empty
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def refuse_empty(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Return what an option was given; refuse an empty text, as of a shell's unset variable."""
    if value == "" or (isinstance(value, tuple) and "" in value):
        name = max(param.opts, key=len)
        raise click.UsageError(f"{name} is given an empty text: leave it out, or give one", ctx)
    return value


class QuietTensorFlow:
    """A finder for `sys.meta_path` that imports TensorFlow with stderr closed.

    While it is imported, its C++ code writes lines to stderr that no setting turns off.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find TensorFlow, and leave every other module to the other finders."""
        spec = PathFinder.find_spec(name, path) if name == "tensorflow" else None
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_quietly(module: ModuleType) -> None:
            sys.stderr.flush()
            stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            try:
                run(module)
            finally:
                os.dup2(stderr, 2)
                os.close(stderr)
                os.close(null)

        spec.loader.exec_module = run_quietly  # type: ignore[method-assign]
        return spec


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
@click.version_option(package_name="kfeat")
def commands(debug: bool) -> None:
    """How good are the features of this image encoder?

    \b
    kfeat train cae1 --data photos
    kfeat score --model cae1 --test photos
    """
    import logging

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter()
    formatter.formatMessage = lambda record: on_one_line(record.getMessage())  # type: ignore[method-assign]
    handler.setFormatter(formatter)
    logger = logging.getLogger("kfeat")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    logging.raiseExceptions = debug  # else a full disk has each line leave a traceback
    if not debug:
        sys.meta_path.insert(0, QuietTensorFlow())  # type: ignore[arg-type]


def main() -> None:
    """Run the command line: exit code 0; 2 for bad input, 1 for a failure at work."""
    if sys.stderr is None:  # closed by who started it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that its encoding lacks, as escapes
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.exit(commands.main(prog_name="kfeat", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except InputError as error:
        show_traceback()
        fail(str(error), 2)
    except click.ClickException as error:
        show_traceback()
        fail(" ".join(error.format_message().split()), 2)
    except (KeyboardInterrupt, click.Abort):
        fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        show_traceback()
        reason = " ".join(str(error).split())
        fail(f"{type(error).__name__}: {reason} (--debug shows the traceback)", 1)


def show_traceback() -> None:
    """With --debug, write the traceback of the exception being handled."""
    if "--debug" in sys.argv[1:]:
        import traceback

        traceback.print_exc()


def fail(message: str, code: int) -> None:
    """Write one line to stderr and exit."""
    click.echo(f"kfeat: error: {on_one_line(message.strip())}", err=True)
    sys.exit(code)
