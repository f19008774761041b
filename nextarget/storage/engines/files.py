"""The files that we make: for their owner alone, and never by way of a link that somebody else may have made.

A file is 0600 from its first moment, whatever the umask. One that is wider already is narrowed; none is widened.

Whose a folder is decides what may be in it. Where only root and we can write, everything is our own doing: a link is
followed, on the way or at the end. Anywhere else somebody may have prepared a name for us: no link is followed there,
and a file that is there already must be a plain one, with no second name, of ours or of the only one who can write
there.
"""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp

from nextarget import telemetry
from nextarget.errors import UnsafeFile

_MODE = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MAX_LINKS = 40
"""As many as Linux follows."""
_BESIDE_DATABASES = ("-wal", "-shm", "-journal")
_preparing = threading.Lock()

log = telemetry.get_logger()


def place_of(path: Path) -> Path:
    """Where a path leads, links followed. What does not exist yet is taken as it is.

    Raises UnsafeFile when a link on the way, or at the end, lies in a folder that others may write to.
    """
    path = path.absolute()
    here, ahead, links = Path(path.anchor), list(path.parts[:0:-1]), 0
    while ahead:
        name = ahead.pop()
        step = here.parent if name == ".." else here / name
        if not step.is_symlink() or links == _MAX_LINKS:
            here = step
            continue
        if _others_may_write(here.stat()):
            raise UnsafeFile(
                f"{step} is a link in a folder that others may write to, so it may lead anywhere.",
                f"Remove it, name what it leads to, or let nobody else write to {here}.",
            )
        links += 1
        target = step.readlink()
        here = Path(target.anchor) if target.is_absolute() else here
        ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    return here


def open_private(path: Path, *, make: bool = False) -> int:
    """A descriptor of a file that only its owner may read: to read it, or with `make` to write to it too.

    Raises OSError, or UnsafeFile when somebody else may have prepared the file.
    """
    path = place_of(path)
    if make:
        try:
            return _make(path)
        except FileExistsError:
            pass
    # A pipe would have us wait for its other end.
    descriptor = os.open(path, (os.O_RDWR if make else os.O_RDONLY) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        _refuse_prepared(path, status)
        _narrow(path, status, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def prepare_database(path: Path) -> None:
    """Make a database's file before SQLite does, which gives the files beside it the same mode.

    A file that is there is not opened: closing it would take away the locks that SQLite holds in this process.
    Raises OSError or UnsafeFile.
    """
    with _preparing:
        refuse_prepared(path, narrow=True)
        if not path.exists():
            with suppress(FileExistsError):
                os.close(_make(path))


def refuse_prepared(path: Path, *, narrow: bool = False) -> None:
    """Raises UnsafeFile when somebody else may have prepared a database, or what SQLite would read beside it."""
    for found in (path, *(path.with_name(path.name + end) for end in _BESIDE_DATABASES)):
        try:
            status = found.lstat()
        except FileNotFoundError:
            continue
        _refuse_prepared(found, status)
        if narrow:
            _narrow(found, status, found)


@contextmanager
def temporary(folder: Path, prefix: str) -> Iterator[tuple[Path, int]]:
    """A new file in a folder, and its descriptor; removed unless it was renamed. Raises OSError."""
    descriptor, name = mkstemp(prefix=prefix, dir=folder)
    try:
        _own(descriptor, folder)
        yield Path(name), descriptor
    finally:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)


@contextmanager
def written_beside(path: Path, text: str) -> Iterator[Path]:
    """A temporary file in the folder of `path` that holds the text, safely on the disk. Raises OSError."""
    with temporary(path.parent, ".nextarget-") as (part, descriptor):
        with os.fdopen(descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.write(text)
        os.fsync(descriptor)
        yield part


def may_be_replaced(folder: Path) -> bool:
    """Whether others may put another file, or a link, in the place of one of ours."""
    status = folder.stat()
    foreign = status.st_uid not in {0, os.geteuid()}
    return foreign or (bool(status.st_mode & _OTHERS_WRITE) and not status.st_mode & stat.S_ISVTX)


def _make(path: Path) -> int:
    """A new file of this name. Raises FileExistsError, for a link that leads nowhere too."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    _own(descriptor, path.parent)
    return descriptor


def _own(descriptor: int, folder: Path) -> None:
    """What root makes in somebody's own folder is theirs, as SQLite's files are: it is their server that needs it."""
    os.fchmod(descriptor, _MODE)  # a umask may have taken away even the owner's part
    status = folder.stat()
    if os.geteuid() == 0 and status.st_uid != 0 and not status.st_mode & _OTHERS_WRITE:
        os.fchown(descriptor, status.st_uid, status.st_gid)


def _others_may_write(folder: os.stat_result) -> bool:
    return folder.st_uid not in {0, os.geteuid()} or bool(folder.st_mode & _OTHERS_WRITE)


def _refuse_prepared(path: Path, status: os.stat_result) -> None:
    folder = path.parent.stat()
    if not _others_may_write(folder):
        return
    owners = {os.geteuid()} if folder.st_mode & _OTHERS_WRITE else {os.geteuid(), folder.st_uid}
    if not stat.S_ISREG(status.st_mode):
        problem = "is no plain file"
    elif status.st_uid not in owners:
        problem = "belongs to another user"
    elif status.st_nlink > 1:
        problem = "has a second name (a hard link)"
    else:
        return
    raise UnsafeFile(
        f"{path} {problem}, in a folder that others may write to: it may have been put there for us.",
        "Remove it, or use a folder that only you can write to.",
    )


def _narrow(path: Path, status: os.stat_result, file: int | Path) -> None:
    if not status.st_mode & _OTHERS or not stat.S_ISREG(status.st_mode):
        return
    try:
        os.chmod(file, stat.S_IMODE(status.st_mode) & ~_OTHERS)  # noqa: PTH101 - a descriptor has no Path
    except OSError as error:
        log.warning(
            "file_open_to_others", path=str(path), mode=f"{stat.S_IMODE(status.st_mode):04o}", reason=error.strerror
        )
