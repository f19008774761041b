"""What a check finds out."""

from collections.abc import Coroutine
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `asked` names what was checked. `said`, `remedy` and `reason` are sentences without
    secrets; `reason` may have words of the other side."""

    asked: str
    verdict: Verdict
    said: str
    remedy: str = ""
    reason: str | None = None


Checks = tuple[Coroutine[None, None, Finding], ...]
"""Checks that have not begun, to be run together."""


def fine(asked: str, said: str) -> Finding:
    return Finding(asked, Verdict.OK, said)


def doubtful(asked: str, said: str, remedy: str = "") -> Finding:
    return Finding(asked, Verdict.WARNING, said, remedy)


def wrong(asked: str, said: str, remedy: str, *, reason: str | None = None) -> Finding:
    return Finding(asked, Verdict.WRONG, said, remedy, reason)
