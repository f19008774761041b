"""Long commands step back behind a server on the same machine."""

import os

import pytest

from nextarget.cli import priority, users
from nextarget.cli.record import audit
from nextarget.services.operator import databases, record
from nextarget.services.operator import users as operator_users


@pytest.mark.parametrize(
    "arguments",
    [
        ["list-users"],
        ["audit"],
        ["explain", "x"],
        ["purge"],
        ["backup", "backup.db"],
        ["copy-db", "sqlite:///a.db", "sqlite:///b.db"],
    ],
)
def test_a_long_command_has_a_low_priority(run, monkeypatch, arguments):
    """Also when it fails later, as here, where there is no database."""
    lowered = []
    monkeypatch.setattr(priority.os, "nice", lowered.append)
    assert run(*arguments).status == 1
    assert lowered == [priority.NICENESS]


@pytest.mark.parametrize("person", [True, False])
def test_a_list_that_no_person_waits_for_runs_while_a_core_is_free(run, monkeypatch, person):
    """A list holds nothing that a server waits for. On a terminal it has a low priority only."""
    idle = []
    for module in (users, audit):
        monkeypatch.setattr(module, "on_terminal", lambda: person)
    monkeypatch.setattr(priority.os, "sched_setscheduler", lambda *given: idle.append(given[:2]))
    assert run("list-users").status == run("audit").status == 1
    assert idle == ([] if person else [(0, os.SCHED_IDLE)] * 2)


@pytest.mark.parametrize("person", [True, False])
def test_a_list_rests_unless_a_person_waits(run, monkeypatch, person):
    """On a terminal it is as fast as it can be."""
    rests = []
    for module, service, name in ((users, operator_users, "list_users"), (audit, record, "list_events")):
        monkeypatch.setattr(module, "on_terminal", lambda: person)
        monkeypatch.setattr(service, name, lambda *_, **options: rests.append(options["rests"]) or iter(()))
    run("init-db")
    assert run("list-users").status == run("audit").status == 0
    assert rests == [not person] * 2


@pytest.mark.parametrize(("options", "rests"), [((), True), (("--fast",), False)])
def test_a_copy_rests_unless_it_is_to_be_fast(run, monkeypatch, options, rests):
    """`--fast` is for an operator who has stopped the servers."""
    asked = []
    copied = databases.Copied("a", "b", {})
    monkeypatch.setattr(databases, "copy", lambda *_, **chosen: asked.append(chosen["rests"]) or copied)
    assert run("copy-db", "sqlite:///a.db", "sqlite:///b.db", *options).status == 0
    assert asked == [rests]


@pytest.mark.parametrize("arguments", [["purge"], ["backup", "backup.db"], ["copy-db", "sqlite:///a.db", "x.db"]])
def test_a_command_that_can_hold_up_a_server_keeps_getting_turns(run, monkeypatch, arguments):
    """It holds a lock, or keeps the log of the database from being emptied: it must come to an end."""
    monkeypatch.setattr(priority.os, "sched_setscheduler", lambda *_: pytest.fail("only while a core is free"))
    assert run(*arguments).status != 0


def test_a_short_command_keeps_its_priority(run, monkeypatch):
    """A person waits for its answer."""
    lowered = []
    monkeypatch.setattr(priority.os, "nice", lowered.append)
    assert run("show-user", "ada@example.org").status == 1
    assert lowered == []


def test_where_a_priority_cannot_be_lowered_the_command_goes_on(monkeypatch):
    """A sandbox of systemd refuses it with EPERM, and some systems have no priorities."""

    def refuse(*_given: object) -> int:
        raise PermissionError

    monkeypatch.setattr(priority.os, "nice", refuse)
    priority.step_back()
    monkeypatch.setattr(priority.os, "sched_setscheduler", refuse)
    priority.step_back_entirely()
    monkeypatch.delattr(priority.os, "nice")
    monkeypatch.delattr(priority.os, "sched_setscheduler")
    priority.step_back_entirely()


def test_the_system_gives_the_process_a_low_priority():
    """In a child, since a process cannot raise its priority again."""
    child = os.fork()
    if child == 0:
        priority.step_back()
        os._exit(os.getpriority(os.PRIO_PROCESS, 0))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == min(
        os.getpriority(os.PRIO_PROCESS, 0) + priority.NICENESS, 19
    )


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="only Linux has this class")
def test_the_system_puts_the_process_behind_all_others():
    """In a child, for the same reason."""
    child = os.fork()
    if child == 0:
        priority.step_back_entirely()
        os._exit(os.sched_getscheduler(0) == os.SCHED_IDLE)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
