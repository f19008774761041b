"""Completion for bash, zsh and fish: the scripts, where they are installed, and the words that they ask for.

A script calls the program that the user typed, which may be outside of PATH, as in a virtual environment. Typer's own
scripts call the `nextarget` in PATH, do nothing at the first Tab in zsh, and import Rich and pydantic at every Tab.
"""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextarget.cli.output import say
from nextarget.errors import OperatorError

if TYPE_CHECKING:
    from typer.core import TyperGroup

ASK = "--complete"
"""The scripts call the program with this option, the shell's name, and the words up to the cursor. The last word is the
one to complete; it may be empty."""
_HELP = "Show this message and exit."
_NO_LIMIT = 10_000
"""A number of characters that no sentence reaches."""
FILES = 1
"""Exit status that tells the shell to complete names of files."""

_BASH = """
# nextarget for bash
_nextarget() {
    local IFS=$'\\n' words
    if words=$("${1/#\\~\\//$HOME/}" --complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null); then
        COMPREPLY=($words)
    else
        compopt -o default 2>/dev/null || COMPREPLY=($(compgen -f -- "$2"))
    fi
}
complete -F _nextarget nextarget
"""
_ZSH = """
# nextarget for zsh
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
_nextarget() {
    local words_of_ours program=${(Q)words[1]}
    local -a described
    [[ $program == '~/'* ]] && program=$HOME/${program#'~/'}
    if words_of_ours=$("$program" --complete zsh "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null); then
        described=(${(f)words_of_ours})
        (( $#described )) && _describe nextarget described
    else
        _files
    fi
}
compdef _nextarget nextarget
"""
_FISH = """
# nextarget for fish
function __nextarget
    set --local words (commandline --current-process --tokenize --cut-at-cursor)
    set --local begun (commandline --current-token --cut-at-cursor)
    set --local program $words[1]
    if string match --quiet '~/*' -- $program
        set program $HOME/(string sub --start 3 -- $program)
    end
    $program --complete fish $words[2..] "$begun" 2>/dev/null
    or __fish_complete_path "$begun"
end
complete --command nextarget --no-files --arguments '(__nextarget)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def current_shell() -> str:
    """The shell that started this program, or else the user's login shell. Raises OperatorError for any other shell."""
    from shellingham import ShellDetectionFailure, detect_shell

    from nextarget.settings.shells import login_shell

    try:
        name = str(detect_shell()[0])
    except (ShellDetectionFailure, RuntimeError, OSError):
        name = ""
    for shell in (name, login_shell()):
        if shell in _SCRIPTS:
            return shell
    raise OperatorError(f"There is completion for {', '.join(_SCRIPTS)}. Run this from one of these shells.")


def script(shell: str) -> str:
    return _SCRIPTS[shell].lstrip()


def install(shell: str) -> None:
    """Write the script, and let the shell read it when it starts. Calling it again changes nothing.

    Raises OSError, or UnsafeFile if another user may have put a file there.
    """
    from nextarget.settings import shells
    from nextarget.storage.engines.files import place_of, written_beside

    path = {
        "bash": shells.data_folder() / "bash-completion/completions/nextarget",
        "zsh": shells.data_folder() / "nextarget/completion.zsh",
        # Not in `completions/`: fish reads that folder only for programs in PATH.
        "fish": shells.fish_folder() / "conf.d/nextarget.fish",
    }[shell]
    path.parent.mkdir(parents=True, exist_ok=True)
    path = place_of(path)
    with written_beside(path, script(shell)) as part:
        part.replace(path)
    say(f"Completion for {shell} is in {path}.")
    start = {"bash": Path.home() / ".bashrc", "zsh": shells.zsh_folder() / ".zshrc"}.get(shell)
    if start is not None:
        _add_line(start, f"[ ! -f {shlex.quote(str(path))} ] || . {shlex.quote(str(path))}")
        say(f"{start} reads it.")
    say("It works in every shell that is started from now on.")


def _add_line(path: Path, line: str) -> None:
    """Append a line to a file, unless the file has it already. Other bytes of the file do not change."""
    from nextarget.storage.engines.files import open_private

    try:
        text = path.read_bytes()
    except FileNotFoundError:
        os.close(open_private(path, make=True))
        text = b""
    if line.encode() in text.splitlines():
        return
    unfinished = bool(text) and not text.endswith(b"\n")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC), "wb") as file:
        file.write(b"\n" * unfinished + line.encode() + b"\n")


def answer(program: "TyperGroup", arguments: list[str]) -> int:
    """Print the words that are possible at the cursor, in the format of the shell's script. Returns the exit status."""
    shell, *words = arguments
    found = _completed(program, words or [""])
    if found is None:
        return FILES
    for word, about in found:
        print(_FORMS.get(shell, _plain)(word, about))
    return 0


def _plain(word: str, _about: str) -> str:
    return word


def _for_zsh(word: str, about: str) -> str:
    escaped = word.replace("\\", "\\\\").replace(":", "\\:")
    return f"{escaped}:{about}" if about else escaped


def _for_fish(word: str, about: str) -> str:
    return f"{word}\t{about}"


_FORMS = {"zsh": _for_zsh, "fish": _for_fish}


def _completed(program: "TyperGroup", words: list[str]) -> list[tuple[str, str]] | None:
    """Possible words with a description; None where the name of a file is possible.

    bash sends `--provider=google` as three words, zsh and fish as one.
    """
    *before, begun = words
    before = [word for word in before if word != "="]
    begun = "" if begun == "=" else begun
    name = next((word for word in before if not word.startswith("-")), None)
    if name is None:
        described: Any = program
    elif (described := program.commands.get(name)) is None:
        return []
    options = {option: parameter for parameter in described.params for option in parameter.opts if option[0] == "-"}
    option_name, equals, _ = begun.partition("=")
    option_with_value = options.get(option_name if equals else before[-1] if before else "")
    if option_with_value is not None and not option_with_value.is_flag:
        joined = f"{option_name}=" if equals else ""
        return [(joined + value, "") for value in _values(option_with_value) if (joined + value).startswith(begun)]
    found: Iterator[tuple[str, str]]
    arguments = [parameter for parameter in described.params if parameter.param_type_name == "argument"]
    if name is None and not begun.startswith("-"):
        found = ((each, summary(command)) for each, command in program.commands.items() if not command.hidden)
    elif arguments and not begun.startswith("-"):
        return None if arguments[0].metavar == "FILE" else []
    else:
        shown = ((option, parameter.help or "") for option, parameter in options.items() if option.startswith("--"))
        found = ((option, about) for option, about in (*shown, ("--help", _HELP)) if option not in before)
    return [(word, " ".join(about.split())) for word, about in found if word.startswith(begun)]


def summary(command: Any) -> str:
    """The first sentence of a command's help."""
    return str(command.get_short_help_str(_NO_LIMIT))


def _values(option: Any) -> list[str]:
    return [str(choice) for choice in option.type_descriptor.choices or ()]
