"""The program `nextarget`: its commands and options, which Typer parses."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from nextarget import __version__
from nextarget.cli import configuration, databases, serving, tokens, users
from nextarget.cli.output import explained
from nextarget.cli.parameters import completion
from nextarget.cli.parameters.completion import summary
from nextarget.cli.parameters.options import convert_plainly
from nextarget.cli.platforms import google_events
from nextarget.cli.record import audit, explain
from nextarget.registry import display_names, offered

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
    help=f"Sign-in with {display_names(offered())} for a mobile app.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,  # `completion` replaces it
    rich_markup_mode=None,  # with Rich, --help would take twice as long
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (serving, users, explain, audit, tokens, databases, configuration, google_events):
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


def run(arguments: list[str]) -> None:
    """Run the command that the arguments name, or answer a shell's question. It always raises SystemExit."""
    if arguments[:1] == [completion.ASK] and len(arguments) > 1:
        sys.exit(completion.answer(typer.main.get_group(app), arguments[1:]))
    app(arguments, prog_name="nextarget")


@contextmanager
def _explained() -> Iterator[None]:
    with explained():
        try:
            yield
        except typer.BadParameter as error:
            error.message = _plain(error.message)
            raise


def _plain(message: str) -> str:
    """A message of pydantic about an option, in the words of this program."""
    for theirs, ours in (("Value error, ", ""), ("Input should be ", "It must be "), ("a valid integer", "a number")):
        message = message.replace(theirs, ours, 1)
    message = message.partition(", unable to parse")[0]
    return message if not message or message.endswith((".", "?")) else f"{message}."
