"""Every error that a person at the terminal sees."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from nextarget.errors.base import NexTargetError


class OperatorError(NexTargetError):
    """An error that a person at the terminal sees, as one sentence on standard error."""

    exit_status: ClassVar[int] = 1


class UserNotFound(OperatorError):
    """No user has that id or email."""


class UserAmbiguous(OperatorError):
    """An email that fits several users; `choices` are lines that name them, the id first."""

    def __init__(self, detail: str, choices: Iterable[str]) -> None:
        self.choices = tuple(choices)
        super().__init__(detail)


class SchemaError(OperatorError):
    """The database cannot be used as it is: not ours, newer than this program, or migrations pending."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem} {remedy}".strip())


class CopyFailed(OperatorError):
    """A copy or a backup could not be made; nothing was left where it was to go."""


class UnsafeFile(OperatorError):
    """Somebody else may have put a file or a link where we keep one; nothing was read from it or written to it."""

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem} {remedy}")


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """One thing wrong with one setting, and what to do about it."""

    setting: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.problem} {self.remedy}"


class ConfigurationError(OperatorError):
    """Everything that is wrong with the settings, reported in one go. Exit status 78 is EX_CONFIG."""

    exit_status = 78

    def __init__(self, problems: Iterable[SettingProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
