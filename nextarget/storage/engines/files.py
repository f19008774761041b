"""Creates all files of this program: readable by their owner only, and never through a link of another user.

A file is created with mode 0600, whatever the umask is. The mode of an existing file is narrowed if it gives others
access, and never widened.

What is trusted depends on the folder. If only root and we can write to it, links in it are followed. If others can
write to it, they may have prepared a file or a link for us: links are refused, and an existing file must be a regular
file without a second hard link, and must belong to us, or to the only other user who can write to the folder.
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
"""As many links as Linux follows in one path."""
_BESIDE_DATABASES = ("-wal", "-shm", "-journal")
_preparing = threading.Lock()

log = telemetry.get_logger()


def place_of(path: Path) -> Path:
    """The path with all links resolved. Parts that do not exist stay as they are.

    Raises UnsafeFile when one of the links is in a folder that others may write to.
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
    """Open a file that only its owner may read; returns the descriptor. With `make` the file is created if it is
    missing, and opened for writing too.

    Raises OSError, or UnsafeFile when another user may have prepared the file.
    """
    path = place_of(path)
    if make:
        try:
            return _make(path)
        except FileExistsError:
            pass
    # O_NONBLOCK: opening a pipe would otherwise wait for its other end.
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
    """Create a database's file before SQLite does; SQLite gives its -wal and -shm files the same mode.

    An existing file is not opened, because closing it would release the locks that SQLite holds in this process.
    Raises OSError or UnsafeFile.
    """
    with _preparing:
        refuse_prepared(path, narrow=True)
        if not path.exists():
            with suppress(FileExistsError):
                os.close(_make(path))


def refuse_prepared(path: Path, *, narrow: bool = False) -> None:
    """Raises UnsafeFile when another user may have prepared a database, or a file that SQLite reads with it."""
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
    """A new file in a folder, and its descriptor. It is removed at the end, unless it was renamed. Raises OSError."""
    descriptor, name = mkstemp(prefix=prefix, dir=folder)
    try:
        _own(descriptor, folder)
        yield Path(name), descriptor
    finally:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)


@contextmanager
def written_beside(path: Path, text: str) -> Iterator[Path]:
    """A temporary file with this text in the folder of `path`, synced to the disk. Raises OSError."""
    with temporary(path.parent, ".nextarget-") as (part, descriptor):
        with os.fdopen(descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.write(text)
        os.fsync(descriptor)
        yield part


def may_be_replaced(folder: Path) -> bool:
    """Whether others can replace one of our files in this folder by another file or a link."""
    status = folder.stat()
    of_others = status.st_uid not in {0, os.geteuid()}
    return of_others or (bool(status.st_mode & _OTHERS_WRITE) and not status.st_mode & stat.S_ISVTX)


def _make(path: Path) -> int:
    """Create a file; returns its descriptor. Raises FileExistsError, also for a link to a missing file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    _own(descriptor, path.parent)
    return descriptor


def _own(descriptor: int, folder: Path) -> None:
    """Set mode and owner. A file that root creates in another user's folder gets that user as owner, as SQLite does
    with its files: the user's server must be able to open it."""
    os.fchmod(descriptor, _MODE)  # the umask may have removed even the owner's rights
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
