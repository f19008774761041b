"""What the environment says about the shells of whoever sits at the terminal: which one, and where their files are."""

import os
from pathlib import Path


def login_shell() -> str:
    """The name of the shell that this person is logged in with, such as `zsh`; empty when nothing says."""
    return Path(os.environ.get("SHELL", "")).name


def wants_no_color() -> bool:
    """Whether this person wants no colours of any program (https://no-color.org: set, and not empty)."""
    return bool(os.environ.get("NO_COLOR"))


def data_folder() -> Path:
    """Where programs keep what belongs to a person (XDG Base Directory Specification)."""
    return _folder("XDG_DATA_HOME", ".local/share")


def fish_folder() -> Path:
    """Where fish looks for its configuration."""
    return _folder("XDG_CONFIG_HOME", ".config") / "fish"


def zsh_folder() -> Path:
    """Where zsh looks for its `.zshrc`."""
    return _folder("ZDOTDIR", "")


def _folder(name: str, usual: str) -> Path:
    named = os.environ.get(name, "")
    return Path(named) if named.startswith("/") else Path.home() / usual
