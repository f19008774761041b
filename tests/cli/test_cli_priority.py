"""Long commands step back behind a server on the same machine."""

import os

import pytest

from nextarget.cli import priority


@pytest.mark.parametrize(
    "arguments", [["list-users"], ["purge"], ["backup", "backup.db"], ["copy-db", "sqlite:///a.db", "sqlite:///b.db"]]
)
def test_a_long_command_has_a_low_priority(run, monkeypatch, arguments):
    """Also when it fails later, as here, where there is no database."""
    lowered = []
    monkeypatch.setattr(priority.os, "nice", lowered.append)
    assert run(*arguments).status == 1
    assert lowered == [priority.NICENESS]


def test_a_short_command_keeps_its_priority(run, monkeypatch):
    """A person waits for its answer."""
    lowered = []
    monkeypatch.setattr(priority.os, "nice", lowered.append)
    assert run("show-user", "ada@example.org").status == 1
    assert lowered == []


def test_where_a_priority_cannot_be_lowered_the_command_goes_on(monkeypatch):
    """A sandbox of systemd refuses it with EPERM, and some systems have no priorities."""

    def refuse(_by: int) -> int:
        raise PermissionError

    monkeypatch.setattr(priority.os, "nice", refuse)
    priority.step_back()
    monkeypatch.delattr(priority.os, "nice")
    priority.step_back()


def test_the_system_gives_the_process_a_low_priority():
    """In a child, since a process cannot raise its priority again."""
    child = os.fork()
    if child == 0:
        priority.step_back()
        os._exit(os.getpriority(os.PRIO_PROCESS, 0))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == min(
        os.getpriority(os.PRIO_PROCESS, 0) + priority.NICENESS, 19
    )
