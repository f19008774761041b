"""The values of options and arguments. Typer converts every value with pydantic, which takes longer to import than most
commands run. Texts and numbers need no pydantic."""

import re
from dataclasses import dataclass
from typing import Any

import typer

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class _Plain:
    """Converts the text of a parameter to `kind`, which is str or int."""

    kind: type
    least: float | None
    most: float | None

    def coerce(self, value: Any, param: Any, ctx: typer.Context) -> object:
        """The value; None if the parameter was not given. Raises typer.BadParameter."""
        if value is None or self.kind is str:
            return value
        if not _WHOLE.fullmatch(str(value)):
            raise typer.BadParameter("It must be a number.", ctx=ctx, param=param)
        number = int(value)
        if self.least is not None and number < self.least:
            raise typer.BadParameter(f"It must be greater than or equal to {self.least}.", ctx=ctx, param=param)
        if self.most is not None and number > self.most:
            raise typer.BadParameter(f"It must be less than or equal to {self.most}.", ctx=ctx, param=param)
        return number


class _Absent:
    """Stands for the conversion of an option that has another type and was not given."""

    def coerce(self, value: Any, param: Any, ctx: typer.Context) -> object:
        """Convert with Typer if there is a value."""
        return value if value is None else type(param).get_runtime_param(param).coerce(value, param=param, ctx=ctx)


def convert_plainly(param: Any) -> None:
    """Let a parameter of Typer convert texts and numbers without pydantic. Other types stay with Typer."""
    kind, limits = param.type_descriptor.annotation, param.type_descriptor.parameter_info
    plain: Any = _Plain(kind, limits.min, limits.max) if kind in {str, int} else _Absent()
    param.get_runtime_param = lambda: plain
