"""The base class of all our errors, and the base class of the errors that HTTP clients see."""

from collections.abc import Iterator, Mapping
from typing import ClassVar


class NexTargetError(Exception):
    """Base class of all our errors. `str(error)` is a sentence that is safe to show. `note` is only for the log."""

    def __init__(self, detail: str, *, note: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.note = note

    @property
    def for_operator(self) -> str:
        """The sentence for the terminal and for the log of a failed start, in place of `detail`."""
        return self.detail


class ProblemError(NexTargetError):
    """An error that HTTP clients see, as a problem document (RFC 9457).

    `code` and `status` never change after a release. `retryable` means that the same request may succeed later;
    `retry_after` is the time to wait, in seconds.
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
    """Further members of this error's problem document (RFC 9457, 3.2)."""
    reason: str | None = None
    """The cause, in a fixed sentence of ours without text from outside. It may be shown and put on the audit record."""
    user_id: str | None = None
    """The user of the request, if known."""
    counts_as_refusal: bool = False
    """Whether the client may have caused an error of status 500 or more. It then counts against the client's address
    where refusals do."""
    logged: bool = False
    """Whether the log already has a line about this error. One failure gets one line."""

    def __init__(
        self, detail: str | None = None, *, note: str | None = None, facts: Mapping[str, str] | None = None
    ) -> None:
        """`facts` are further fields of the log line, such as ids."""
        super().__init__(detail or self.sentence, note=note)
        self.facts = facts or {}


def problem_types() -> Iterator[type[ProblemError]]:
    """All errors that have a code, in the order of `problems.py`."""
    pending: list[type[ProblemError]] = ProblemError.__subclasses__()
    while pending:
        kind = pending.pop(0)
        yield kind
        pending.extend(kind.__subclasses__())
