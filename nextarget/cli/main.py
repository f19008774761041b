"""The program `nextarget`: its commands, and the one place where an error becomes a sentence and an exit status."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nextarget import __version__
from nextarget.cli import completion, configuration, databases, serving, tokens, users
from nextarget.cli.completion import summary
from nextarget.cli.output import say
from nextarget.errors import ConfigurationError, NexTargetError, OperatorError, UserAmbiguous

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


class Commands(TyperGroup):
    """Runs a command, and says in a sentence why it failed."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        with _explained():  # some options are commands
            return super().parse_args(ctx, args)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        with _explained():
            result: object = super().invoke(ctx)
            sys.stdout.flush()
        return result

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Whole summaries: Typer's own would end in dots where a line has no room for them."""
        with formatter.section("Commands"):
            formatter.write_dl([(each.name, summary(each)) for each in self.commands.values() if not each.hidden])

    def get_help_option(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False  # Typer's own None would be converted, and for that pydantic imported
        return option


app = typer.Typer(
    cls=Commands,
    help="Sign-in with Google and Facebook for a mobile app.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,  # `completion` does it
    rich_markup_mode=None,  # Rich would double the time that --help takes
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
    """Sign-in with Google and Facebook for a mobile app."""


def main() -> None:
    """The console script. Always ends with SystemExit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an email may hold what the terminal's encoding lacks
    try:
        if sys.argv[1:2] == [completion.ASK] and len(sys.argv) > 2:
            sys.exit(completion.answer(typer.main.get_group(app), sys.argv[2:]))
        app(prog_name="nextarget")
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        # Neither its text nor its traceback: either may quote what must not be shown.
        say(
            f"Internal error ({type(error).__name__}). This is a fault of nextarget: please report it. "
            "With PYTHONDEVMODE=1 in the environment, the same command shows where it happened."
        )
        sys.exit(1)


@contextmanager
def _explained() -> Iterator[None]:
    """Whatever goes wrong becomes a sentence, and typer.Exit with the exit status."""
    try:
        yield
    except NexTargetError as error:
        _explain(error)
        raise typer.Exit(error.exit_status if isinstance(error, OperatorError) else 1) from None
    except BrokenPipeError:
        _drop_output()  # whoever read it has seen enough: `nextarget list-users | head`
        raise typer.Exit(0) from None
    except OSError as error:
        _drop_output()
        say(f"Error: {error.strerror or type(error).__name__}{f': {error.filename}' if error.filename else ''}.")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


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
    """Let the interpreter's last flush go nowhere, so that it does not fail again on the way out."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
