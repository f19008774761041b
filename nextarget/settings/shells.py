"""What the environment says about the user's shell and terminal, and where the files of shells are."""

import os
from pathlib import Path


def login_shell() -> str:
    """The name of the user's login shell, such as `zsh`; empty if it is unknown."""
    return Path(os.environ.get("SHELL", "")).name


def wants_no_color() -> bool:
    """Whether the user asks all programs for output without colours (https://no-color.org: NO_COLOR is not empty)."""
    return bool(os.environ.get("NO_COLOR"))


def data_folder() -> Path:
    """The folder for the user's data files (XDG Base Directory Specification)."""
    return _folder("XDG_DATA_HOME", ".local/share")


def fish_folder() -> Path:
    """The folder of fish's configuration."""
    return _folder("XDG_CONFIG_HOME", ".config") / "fish"


def zsh_folder() -> Path:
    """The folder with zsh's `.zshrc`."""
    return _folder("ZDOTDIR", "")


def _folder(name: str, usual: str) -> Path:
    named = os.environ.get(name, "")
    return Path(named) if named.startswith("/") else Path.home() / usual
