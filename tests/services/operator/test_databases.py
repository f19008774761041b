"""What an operator does with a whole database, without the terminal."""

from pathlib import Path

from nextarget.services import accounts
from nextarget.services.operator.databases import copy, migrate, pending
from nextarget.storage.engines.addresses import database_at
from tests.services.conftest import ADA, START
from tests.templates import put_migrated


def test_pending_says_what_migrate_would_apply_and_makes_no_file(tmp_path: Path) -> None:
    """The first migration creates the database. After `migrate` nothing is pending."""
    url = f"sqlite:///{tmp_path}/nextarget.db"
    before = pending(url)
    assert before.database == str(tmp_path / "nextarget.db")
    assert before.created
    assert list(tmp_path.iterdir()) == []
    assert migrate(url) == before
    assert (pending(url).names, pending(url).created) == ([], False)


def test_a_copy_says_how_far_it_is(tmp_path: Path) -> None:
    """So that a person who waits sees it. Source and target have their names for people."""
    put_migrated(tmp_path / "source.db")
    source, target = (database_at(f"sqlite:///{tmp_path}/{name}.db") for name in ("source", "target"))
    source.write_now(accounts.admit, ADA, now=START)
    progress: list[tuple[int, int]] = []
    copied = copy(source, target, rests=False, progress=lambda done, total: progress.append((done, total)))
    assert (copied.source, copied.target) == (str(tmp_path / "source.db"), str(tmp_path / "target.db"))
    assert (copied.rows["user"], sum(copied.rows.values())) == (1, 1)
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert progress[-1][0] == progress[-1][1]
