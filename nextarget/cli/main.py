"""Where the program begins. It serves without Typer if there is nothing to parse, and else hands over to `program`."""

import io
import sys

from nextarget.cli.output import explained, say

_SERVE = ["serve"]
"""These arguments need no parser. Without Typer, a server starts a tenth faster; the unit and the image start it so."""


def main() -> None:
    """The console script. It always raises SystemExit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an email may have letters that the encoding lacks
    try:
        if sys.argv[1:] == _SERVE:
            _serve()
        else:
            from nextarget.cli import program

            program.run(sys.argv[1:])
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        if isinstance(error, UnicodeEncodeError) and not all(map(_is_text, sys.argv)):
            say("An argument has bytes that are no UTF-8. Type it again.")
            sys.exit(2)
        # Text and traceback of the error are not shown: they may quote secrets.
        say(
            f"Internal error ({type(error).__name__}). This is a fault of nextarget: please report it. "
            "With PYTHONDEVMODE=1 in the environment, the same command shows where it happened."
        )
        sys.exit(1)


def _is_text(argument: str) -> bool:
    """Whether an argument was UTF-8. Python keeps other bytes as surrogates, which nothing can encode (PEP 383)."""
    return not any("\ud800" <= character <= "\udfff" for character in argument)


def _serve() -> None:
    with explained():
        from nextarget.cli.running import serve

        serve({}, sandbox=False)
    sys.exit(0)
