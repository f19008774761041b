"""The errors that a person at the terminal sees."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from nextarget.errors.base import NexTargetError


class OperatorError(NexTargetError):
    """An error that a person at the terminal sees, as one sentence on standard error."""

    exit_status: ClassVar[int] = 1


class UserNotFound(OperatorError):
    """No user has the given id or email."""


class UserAmbiguous(OperatorError):
    """Several users have the given email. `choices` has one line for a user, which begins with the id."""

    def __init__(self, detail: str, choices: Iterable[str]) -> None:
        self.choices = tuple(choices)
        super().__init__(detail)


class SchemaError(OperatorError):
    """The database cannot be used: another program made it, a newer version did, or migrations have to run first."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem} {remedy}".strip())


class CopyFailed(OperatorError):
    """A copy or a backup failed. No incomplete file is left at the target."""


class UnsafeFile(OperatorError):
    """Another user of the machine may have put a file or a link at the path of one of our files. We did not read it or
    write to it."""

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem} {remedy}")


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """One problem with one setting, and its remedy."""

    setting: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.problem} {self.remedy}"


class ConfigurationError(OperatorError):
    """All problems with the settings together. Exit status 78 is EX_CONFIG."""

    exit_status = 78

    def __init__(self, problems: Iterable[SettingProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
