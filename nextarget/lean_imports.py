"""Importing a library without the optional packages that it would load because they are installed.

Structlog loads Rich, and Peewee loads every driver of a database, whether they are used or not.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Let imports in this block fail for `packages`, as if they were not installed. Packages that are imported already
    stay as they are. Not for threads: another thread could not import the packages either."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes `import` fail
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
