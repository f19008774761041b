"""The errors that callers of the HTTP API see, by their status."""

from nextarget.errors import ProblemError, problem_types
from tests.reference.markdown import code, plain, table


def blocks() -> dict[str, str]:
    kinds = sorted(problem_types(), key=lambda kind: kind.status)
    return {"errors": table(["code", "status", "OAuth `error`", "try again", "title and sentence"], map(_row, kinds))}


def _row(kind: type[ProblemError]) -> tuple[str, str, str, str, str]:
    sentence = f"**{plain(kind.title)}.** {plain(kind.sentence)}"
    return code(kind.code), str(kind.status), _oauth_error(kind), _again(kind), sentence


def _oauth_error(kind: type[ProblemError]) -> str:
    """The OAuth error, or an empty text if it is the code."""
    return "" if kind.oauth_error == kind.code else code(kind.oauth_error)


def _again(kind: type[ProblemError]) -> str:
    if not kind.retryable:
        return "no"
    return "yes" if kind.retry_after is None else f"after {kind.retry_after} s"
