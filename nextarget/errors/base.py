"""What every error of ours is, and what those are that HTTP callers see."""

from collections.abc import Iterator, Mapping
from typing import ClassVar


class NexTargetError(Exception):
    """Base of every error of ours. `str(error)` is a safe sentence; `note` is for the log alone."""

    def __init__(self, detail: str, *, note: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.note = note

    @property
    def for_operator(self) -> str:
        """What a person at the terminal, or in the log of the start, is told in the place of `detail`."""
        return self.detail


class ProblemError(NexTargetError):
    """An error that HTTP callers see, as an RFC 9457 problem document.

    `code` and `status` never change once released. `retryable` says that the same request may succeed later;
    `retry_after` (seconds) then says when to try.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]
    sentence: ClassVar[str]
    retryable: ClassVar[bool] = False
    retry_after: int | None = None
    oauth_error: ClassVar[str] = "invalid_request"
    """The error code on the OAuth endpoints (RFC 6749, 4.1.2.1 and 5.2)."""
    members: Mapping[str, str] = {}
    """Members that only this error's problem document has (RFC 9457, 3.2)."""
    reason: str | None = None
    """Why, in a fixed sentence of ours that quotes nothing: it may be shown, and kept on record."""
    user_id: str | None = None
    """The user whom it is about, where that is known."""
    told: bool = False
    """Whether the log has a line for it already: one failure is one line."""

    def __init__(
        self, detail: str | None = None, *, note: str | None = None, facts: Mapping[str, str] | None = None
    ) -> None:
        """`facts` are what else the log tells, such as ids."""
        super().__init__(detail or self.sentence, note=note)
        self.facts = facts or {}


def problem_types() -> Iterator[type[ProblemError]]:
    """Every error that has a code, in the order of `problems.py`."""
    pending: list[type[ProblemError]] = ProblemError.__subclasses__()
    while pending:
        kind = pending.pop(0)
        yield kind
        pending.extend(kind.__subclasses__())
