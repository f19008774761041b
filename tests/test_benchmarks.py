"""The benchmarks themselves: what they publish, and what they count."""

import json
from pathlib import Path

import jwt
import pytest

from tests.benchmarks.load import Connections, ask_each, form_request, get_request
from tests.benchmarks.provider import CLIENT_ID, provider
from tests.benchmarks.rows import Row, Run
from tests.benchmarks.servers import bare_server
from tests.benchmarks.table import PAGE, PUBLISHED, block, renewed


def test_the_published_table_is_made_from_the_published_run() -> None:
    """The docs publish what a run measured, and nothing that somebody typed."""
    page = PAGE.read_text(encoding="utf-8")
    assert renewed(page, Run.read(PUBLISHED)) == page, "write it again with: python -m tests.benchmarks.table"


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The file of a run keeps every row, also one without a figure."""
    rows = [
        Row.of("work", "x bare", [1.0, 4.0, 2.0], place="SQLite, one worker", measured="9 µs", budget=1.5),
        Row("peer", "x bare", missing="no network"),
    ]
    run = Run.today(rows)
    run.write(tmp_path / "run.json")
    assert Run.read(tmp_path / "run.json") == run


def test_a_line_shows_median_spread_and_what_is_over_its_budget() -> None:
    """A reader sees how far a figure can be trusted, and which budgets are not met."""
    rows = [
        Row.of("work", "x bare", [1.0, 4.0, 2.0], place="SQLite, one worker", measured="9 µs", budget=1.5),
        Row("work", "x bare", "PostgreSQL, one worker", missing="no network", budget=1.5),
    ]
    line = block(Run("2026-11-27", "a machine", rows)).splitlines()[-1]
    assert line == "| work, x bare |  | **2** (1 to 4; 9 µs) |  | not measured: no network |  | 1.5 |"


def test_a_row_of_an_unknown_place_is_an_error() -> None:
    """No row is left out of the table silently."""
    with pytest.raises(ValueError, match="no column for Mars"):
        block(Run("2026-11-27", "a machine", [Row("work", "x bare", "Mars")]))


@pytest.mark.slow
def test_paced_requests_are_sent_at_their_rate() -> None:
    """A paced load is sent at its rate, not as fast as the server answers."""
    with bare_server() as server, Connections(server.port, 4) as connections:
        request = get_request(server.port, "/users/me", {})
        answers = connections.ask([request] * 40, rate=200)
    assert answers.seconds >= 39 / 200
    assert {json.loads(body)["provider"] for body in answers.bodies} == {"google"}
    assert len(answers.waits) == 40


@pytest.mark.slow
def test_the_stand_in_provider_redeems_the_codes_that_it_was_told() -> None:
    """The stand-in provider gives the id_token of the person and of the login for a code."""
    with provider() as stand_in:
        (code,) = stand_in.approve(["ada"], ["a nonce"])

        form = form_request(stand_in.port, "/token", {"grant_type": "authorization_code", "code": code})
        (answer,) = ask_each(stand_in.port, [form], connections=1)
    token = json.loads(answer)["id_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["aud"], claims["sub"], claims["nonce"]) == (CLIENT_ID, "ada", "a nonce")
