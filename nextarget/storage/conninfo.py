"""What PostgreSQL's own client makes of a URL. Apart from the database, so that a URL can be judged without one."""

import re
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from nextarget.errors import ConfigurationError, SettingProblem

_NAME = re.compile(r"[A-Za-z_]{1,40}")


def parameters_of(url: str) -> dict[str, Any]:
    """The parameters of a connection, as libpq names them (PostgreSQL's manual, 34.1.2).

    Raises ConfigurationError, which names the options that libpq does not know and quotes nothing else: what the
    driver says may hold the password.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        problem = "has a parameter or an escape (%..) that PostgreSQL's client does not know."
        remedy = "Write postgresql://user:password@host:5432/database."
        if unknown := _unknown_options(url):
            problem = f"has what PostgreSQL's client does not know: {', '.join(unknown)}."
            remedy = (
                "Leave that out; it is for other programs, and a pooler such as PgBouncer needs no word of it here."
            )
        raise ConfigurationError([SettingProblem("DATABASE_URL", problem, remedy)]) from None
    return {name: value for name, value in given.items() if value is not None}


def _unknown_options(url: str) -> list[str]:
    """Names after the question mark that are none of libpq's. None of a query with an at sign, which may be the end of
    a password; and none that looks less like a name than those of any driver do."""
    query = urlsplit(url).query
    if "@" in unquote(query):
        return []
    known = {option.keyword.decode() for option in Conninfo.get_defaults()} | {"ssl"}
    names = [option.partition("=")[0] for option in query.split("&") if "=" in option]
    return [name for name in dict.fromkeys(names) if name not in known and _NAME.fullmatch(name)]
