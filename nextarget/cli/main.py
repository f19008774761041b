"""The program `nextarget`: its commands, and the place where an error becomes a sentence and an exit status."""

import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from nextarget import __version__
from nextarget.cli import completion, configuration, databases, serving, tokens, users
from nextarget.cli.completion import summary
from nextarget.cli.output import say
from nextarget.cli.parameters.options import convert_plainly
from nextarget.errors import ConfigurationError, NexTargetError, OperatorError, UserAmbiguous
from nextarget.registry import display_names

_EPILOG = """
\b
Exit status:
  0   done
  1   failed; standard error says why
  2   the command was not understood
  78  the settings are wrong; standard error lists every problem
\b
Examples:
  nextarget serve --sandbox
  nextarget check-config
  nextarget serve --host 0.0.0.0 --port 8080
"""


_MARGIN = 2
"""Free columns at the right of help texts."""
_TYPER_MIN_COLUMNS = 50 + _MARGIN
"""Typer writes help for terminals of at least this width."""


def _leave_room(formatter: Any) -> None:
    """On a narrow terminal, names take at most half of a line; a longer name gets a line of its own."""
    if formatter.width < _TYPER_MIN_COLUMNS:
        formatter.write_dl = partial(formatter.write_dl, col_max=formatter.width // 2 - 2 * _MARGIN)


class Command(TyperCommand):
    """A command. Its usage line shows arguments as its help does: without braces."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for each in self.params:
            convert_plainly(each)

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def get_help_option(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False  # as in `Commands`
        return option

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        _leave_room(formatter)
        super().format_options(ctx, formatter)


class Program(typer.Typer):
    """The program's group of commands, which are of the class `Command`."""

    def command(self, *names: str, **options: Any) -> Any:  # type: ignore[override]
        return super().command(*names, **({"cls": Command} | options))


class Commands(TyperGroup):
    """Runs a command, and explains in a sentence why it failed."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Let help fit the terminal: Typer's own help is at least fifty columns wide."""
        columns = shutil.get_terminal_size().columns
        if columns < _TYPER_MIN_COLUMNS:
            options.setdefault("terminal_width", max(columns - _MARGIN, 1))
        return super().make_context(*arguments, **options)

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        with _explained():  # options such as --install-completion run here, and can fail
            return super().parse_args(ctx, args)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        with _explained():
            result: object = super().invoke(ctx)
            sys.stdout.flush()
        return result

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        _leave_room(formatter)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Show complete summaries: Typer cuts them where a line is too short."""
        with formatter.section("Commands"):
            formatter.write_dl([(each.name, summary(each)) for each in self.commands.values() if not each.hidden])

    def get_help_option(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False  # with None, Typer would import pydantic to convert the value
        return option


app = Program(
    cls=Commands,
    help=f"Sign-in with {display_names()} for a mobile app.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,  # `completion` replaces it
    rich_markup_mode=None,  # with Rich, --help would take twice as long
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (serving, users, tokens, databases, configuration):
    group.add(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nextarget {__version__}")
        raise typer.Exit


def _install_completion(wanted: bool) -> None:
    if wanted:
        completion.install(completion.current_shell())
        raise typer.Exit


def _show_completion(wanted: bool) -> None:
    if wanted:
        typer.echo(completion.script(completion.current_shell()), nl=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    install_completion: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            help="Have this shell complete commands and options with Tab: bash, zsh or fish.",
            callback=_install_completion,
            is_eager=True,
        ),
    ] = False,
    show_completion: Annotated[
        bool,
        typer.Option(
            "--show-completion",
            help="Print what --install-completion would install.",
            callback=_show_completion,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """The options of the program itself; its help is above."""


def main() -> None:
    """The console script. It always raises SystemExit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an email may have letters that the encoding lacks
    try:
        if sys.argv[1:2] == [completion.ASK] and len(sys.argv) > 2:
            sys.exit(completion.answer(typer.main.get_group(app), sys.argv[2:]))
        app(prog_name="nextarget")
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        # Text and traceback of the error are not shown: they may quote secrets.
        say(
            f"Internal error ({type(error).__name__}). This is a fault of nextarget: please report it. "
            "With PYTHONDEVMODE=1 in the environment, the same command shows where it happened."
        )
        sys.exit(1)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors into a sentence on standard error, and typer.Exit with the exit status."""
    try:
        yield
    except typer.BadParameter as error:
        error.message = _plain(error.message)
        raise
    except NexTargetError as error:
        _explain(error)
        raise typer.Exit(error.exit_status if isinstance(error, OperatorError) else 1) from None
    except BrokenPipeError:
        _drop_output()  # the reader has ended, as in `nextarget list-users | head`
        raise typer.Exit(0) from None
    except OSError as error:
        _drop_output()
        say(f"Error: {error.strerror or type(error).__name__}{f': {error.filename}' if error.filename else ''}.")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _plain(message: str) -> str:
    """A message of pydantic about an option, in the words of this program."""
    for theirs, ours in (("Value error, ", ""), ("Input should be ", "It must be "), ("a valid integer", "a number")):
        message = message.replace(theirs, ours, 1)
    message = message.partition(", unable to parse")[0]
    return message if message.endswith((".", "?")) else f"{message}."


def _explain(error: NexTargetError) -> None:
    if isinstance(error, ConfigurationError):
        count = len(error.problems)
        say(f"Error: {count} problem{'s' if count != 1 else ''} with the settings:")
        for problem in error.problems:
            say(f"  {problem}")
        return
    say(f"Error: {error.for_operator}")
    if isinstance(error, UserAmbiguous):
        for choice in error.choices:
            say(f"  {choice}")
    if error.note:
        say(f"Reason: {error.note}")


def _drop_output() -> None:
    """Send standard output to the null device: flushing it at the end of the program would fail again."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
