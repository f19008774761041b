"""Small disks for one test, which fills them. They are real file systems of the kernel."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which

from tests.conftest import need

_AS_ROOT = () if os.geteuid() == 0 else ("sudo", "-n")
_FILLER = "filler"


@contextmanager
def small_disk(folder: Path, size: str = "3m") -> Iterator["SmallDisk"]:
    """Mount a tmpfs in `folder` and unmount it at the end. This needs root, or sudo without a password."""
    folder.mkdir()
    options = f"size={size},mode=0755,uid={os.geteuid()},gid={os.getegid()}"
    mount = (*_AS_ROOT, "mount", "-t", "tmpfs", "-o", options, "nextarget-tests", str(folder))
    mounted = all(map(which, mount[:1])) and not subprocess.run(mount, check=False, capture_output=True).returncode
    if not mounted:
        folder.rmdir()
    need(mounted, "a small disk cannot be mounted here")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run((*_AS_ROOT, "umount", "--lazy", str(folder)), check=True)
        folder.rmdir()


class SmallDisk:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, *, up_to: int = 0) -> None:
        """Fill the disk, except for `up_to` bytes."""
        file = self.folder / _FILLER
        with file.open("ab", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4096))
        os.truncate(file, max(0, file.stat().st_size - up_to))

    def empty(self) -> None:
        """Free the space again."""
        (self.folder / _FILLER).unlink()

    def make_read_only(self) -> None:
        """Make the disk read-only, as the kernel does with a disk that fails."""
        subprocess.run((*_AS_ROOT, "mount", "-o", "remount,ro", str(self.folder)), check=True)

    def make_writable(self) -> None:
        subprocess.run((*_AS_ROOT, "mount", "-o", "remount,rw", str(self.folder)), check=True)
