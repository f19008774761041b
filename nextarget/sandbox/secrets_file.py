"""The file with the sandbox's generated secrets. It is made once, and a newer release adds the secrets that it needs.

Only the file's owner can read it.
"""

import contextlib
import fcntl
import json
import os
import re
import secrets
from pathlib import Path
from typing import NoReturn

from nextarget.errors import ConfigurationError, SettingProblem, UnsafeFile
from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from nextarget.sandbox.made_up import MadeUp, StandInClient
from nextarget.storage.engines.files import open_private, place_of, written_beside


def _wanted() -> dict[str, MadeUp]:
    """All texts of the file: the server's secret, and the generated texts of our client at every stand-in."""
    wanted = {"jwt_secret_key": MadeUp(re.compile(r"[\w-]{64,128}"), lambda: secrets.token_urlsafe(64), first=True)}
    for provider, entry in PROVIDERS.items():
        client: type[StandInClient] = entry.stand_in_client()
        wanted |= {kept_name(provider, name): made_up for name, made_up in client.made_up.items()}
    return wanted


def kept_name(provider: Provider, name: str) -> str:
    """The name in the file for a generated text of a stand-in's client."""
    return f"{provider}_{name}"


def kept_secrets(path: Path) -> dict[str, str]:
    """The secrets in the file. If necessary, the file is created or completed first.

    Raises ConfigurationError if the file cannot be read or written, is damaged, or may be the file of another user of
    the machine. In these cases the file is not overwritten.
    """
    try:
        return _read_whole(place_of(path))
    except UnsafeFile as error:
        _refuse(error.problem, error.remedy)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        _refuse(
            f"{path} cannot be read or written ({(reason or 'it is not text').lower()}).",
            "Delete it if it exists, or run in a folder that you can write to.",
        )
    except (ValueError, TypeError, RecursionError):
        _refuse(
            f"{path} is damaged.",
            "Delete it; it is made anew. Delete the sandbox's database beside it too if you want to start afresh.",
        )


def _read_whole(path: Path) -> dict[str, str]:
    text = _read(path)
    if text is None:
        _create(path, {name: made_up.make() for name, made_up in _wanted().items()})
        text = _read(path)
    kept = _checked(text or "")
    return kept if kept.keys() >= _wanted().keys() else _completed(path)


def _checked(text: str) -> dict[str, str]:
    """The secrets in the file's text. Secrets that the first release did not have may be missing.

    Raises ValueError, TypeError or RecursionError.
    """
    kept = json.loads(text)
    if not isinstance(kept, dict):
        raise TypeError("not an object")
    wanted = _wanted()
    for name, made_up in wanted.items():
        if name not in kept and not made_up.first:
            continue
        if not isinstance(kept.get(name), str) or not made_up.shape.fullmatch(kept[name]):
            raise ValueError("missing or odd value")
        if made_up.check is not None:
            made_up.check(kept[name])
    return {name: kept[name] for name in wanted if name in kept}


def _read(path: Path) -> str | None:
    try:
        with os.fdopen(open_private(path), encoding="utf-8") as file:
            return file.read(64 * 1024)
    except FileNotFoundError:
        return None


def _create(path: Path, made_up: dict[str, str]) -> None:
    """Create the file with its content in one atomic step. If another process has created it meanwhile, that file
    stays."""
    with written_beside(path, _text(made_up)) as part, contextlib.suppress(FileExistsError):
        path.hardlink_to(part)


def _completed(path: Path) -> dict[str, str]:
    """Add the missing secrets, and keep the others. A lock lets only one process do this at a time, so that all
    processes have the same secrets."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        kept = _checked(_read(path) or "")
        missing = {name: made_up.make() for name, made_up in _wanted().items() if name not in kept}
        if missing:
            with written_beside(path, _text(kept | missing)) as part:
                part.replace(path)
        return kept | missing
    finally:
        os.close(folder)


def _text(values: dict[str, str]) -> str:
    return json.dumps(values, indent=2)


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise ConfigurationError([SettingProblem("--sandbox", problem, remedy)]) from None
