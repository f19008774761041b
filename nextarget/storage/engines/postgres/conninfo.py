"""Checks a DATABASE_URL with libpq, PostgreSQL's client library. No database is needed for that."""

import re
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo, PGconn

from nextarget.errors import ConfigurationError, SettingProblem

_NAME = re.compile(r"[A-Za-z_]{1,40}")
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,9}\s*", re.ASCII)
_NUMBERS = {
    *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    "tcp_user_timeout",
}
"""Parameters that libpq reads as whole numbers, once it has a host (PostgreSQL's manual, 34.1.2)."""
_JUDGED = (
    *("sslmode", "sslnegotiation", "sslcertmode", "sslrootcert", "ssl_min_protocol_version"),
    *("ssl_max_protocol_version", "gssencmode", "channel_binding", "require_auth", "target_session_attrs"),
    "load_balance_hosts",
)
"""Parameters that libpq checks before it looks for a host. Which of them it knows depends on its version."""
_NOWHERE = "/dev/null/nowhere"
"""A folder that cannot exist, as the host: libpq fails at once, without using the network."""


def parameters_of(url: str) -> dict[str, Any]:
    """The parameters of a connection, as libpq names them (PostgreSQL's manual, 34.1.2).

    Raises ConfigurationError with the names of the options that libpq does not know, or whose values it refuses. The
    driver's own message is not quoted: it may contain the password. The network is not used.
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
    parameters = {name: value for name, value in given.items() if value is not None}
    if refused := _refused(parameters):
        problem = f"has a value that PostgreSQL's client does not take: of {', '.join(refused)}."
        raise ConfigurationError(
            [
                SettingProblem(
                    "DATABASE_URL", problem, "Write one that PostgreSQL's manual has, in 34.1.2, or leave it out."
                )
            ]
        )
    return parameters


def _refused(parameters: dict[str, Any]) -> list[str]:
    """Names of the parameters with values that libpq refuses. If only their combination is wrong, all of its names."""
    hosts = max(len(str(parameters.get(name) or "").split(",")) for name in ("host", "hostaddr"))
    ports = str(parameters.get("port") or "").split(",")
    refused = [name for name in parameters if name in _NUMBERS and not _WHOLE.fullmatch(str(parameters[name]))]
    if len(ports) not in {1, hosts} or not all(map(_is_port, ports)):
        refused.append("port")
    judged = {name: parameters[name] for name in _JUDGED if name in parameters}
    usual = _message_for({})
    if _message_for(judged) != usual:
        refused += [name for name in judged if _message_for({name: judged[name]}) != usual] or judged
    return refused


def _is_port(text: str) -> bool:
    """Whether this is a port. Empty text means PostgreSQL's default port."""
    return not text or bool(_WHOLE.fullmatch(text) and 0 < int(text) < 65536)


def _message_for(parameters: dict[str, Any]) -> bytes:
    """libpq's error when it connects to _NOWHERE with these parameters. An unusual error is about a parameter."""
    connection = PGconn.connect_start(make_conninfo(host=_NOWHERE, port="5432", **parameters).encode())
    try:
        return connection.error_message
    finally:
        connection.finish()


def _unknown_options(url: str) -> list[str]:
    """Names in the query of the URL that libpq does not know. Empty if the query has an at sign, because then it may be
    the end of a password; and without names that do not look like a driver's option."""
    query = urlsplit(url).query
    if "@" in unquote(query):
        return []
    known = {option.keyword.decode() for option in Conninfo.get_defaults()} | {"ssl"}
    names = [option.partition("=")[0] for option in query.split("&") if "=" in option]
    return [name for name in dict.fromkeys(names) if name not in known and _NAME.fullmatch(name)]
