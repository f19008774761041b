"""Whatever a request writes is one transaction: after a power cut, all of it is there or nothing.

A request that changes nothing asks for none, because on SQLite all writes wait for one another."""

from typing import Any

import pytest

from nextarget.model import Provider
from nextarget.registry import PROVIDERS
from nextarget.storage.rows.rotations import LOOK
from tests.apps import App, refresh
from tests.running import Answer, Server, open_browser, query_of

BOTH = pytest.mark.parametrize("provider", PROVIDERS)


@pytest.fixture
def transactions(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The transactions that requests have asked for, by the method that was called."""
    begun: list[str] = []
    database = server.runtime.database

    def counting(name: str) -> Any:
        method = getattr(database, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            begun.append(name)
            return method(*arguments, **options)

        return counted

    for name in ("write", "write_batched"):
        monkeypatch.setattr(database, name, counting(name))

    read_batched = database.read_batched

    async def looked(fn: Any, key: Any) -> Any:
        answer = await read_batched(fn, key)
        if fn is LOOK and answer[-1]:  # it has rotated the session
            begun.append("read_batched")
        return answer

    monkeypatch.setattr(database, "read_batched", looked)
    return begun


async def tokens_of(server: Server, person: str = "ada") -> tuple[str, dict[str, Any]]:
    """The refresh token of a new session, and a header with its access token."""
    signed_in = (await server.sign_in(person=person)).json
    return signed_in["refresh_token"], {"headers": {"Authorization": f"Bearer {signed_in['access_token']}"}}


def the_only_one(transactions: list[str], answer: Answer, status: int = 200) -> None:
    assert answer.status == status, answer.text
    assert len(transactions) == 1
    transactions.clear()


@BOTH
@pytest.mark.parametrize("visit", ["first", "later"])
async def test_a_sign_in_is_one_transaction(
    server: Server, transactions: list[str], provider: Provider, visit: str
) -> None:
    """Login, user, session and audit events are written together, at the callback. To begin writes nothing."""
    if visit == "later":
        await server.sign_in(provider)
        transactions.clear()
    begun = await server.begin(provider)
    back = await server.approve(begun["auth_url"])
    assert transactions == []
    the_only_one(transactions, await server.get(back))


@BOTH
async def test_a_sign_in_of_an_app_is_two_transactions(
    server: Server, transactions: list[str], provider: Provider
) -> None:
    """One writes the code, at the callback, and one the session, when the app redeems the code."""
    async with open_browser(server.url) as browser:
        app = App(browser)
        back = await app.approve(provider=provider)
        assert transactions == []
        answer = await browser.get(back)
        the_only_one(transactions, answer, 302)
        the_only_one(transactions, await app.redeem(query_of(answer.headers["Location"])["code"]))


async def test_a_login_that_fails_is_one_transaction(server: Server, transactions: list[str]) -> None:
    """That the state was used and why the login failed are written together."""
    back = await server.approve((await server.begin())["auth_url"], fault="wrong_audience")
    the_only_one(transactions, await server.get(back), 502)


async def test_a_refresh_is_one_transaction_and_its_repeat_is_none(server: Server, transactions: list[str]) -> None:
    """Within the reuse window nothing changes, so nothing is written."""
    token, _ = await tokens_of(server)
    transactions.clear()
    the_only_one(transactions, await refresh(server, token))
    assert (await refresh(server, token)).status == 200
    assert transactions == []


@pytest.mark.parametrize("path", ["/users/me", "/users/me/sessions", "/users/me/data", "/health", "/auth/google/start"])
async def test_what_only_reads_asks_for_no_transaction(server: Server, transactions: list[str], path: str) -> None:
    """Neither for itself nor for its limits."""
    _, bearer = await tokens_of(server)
    transactions.clear()
    assert (await server.get(path, **bearer)).status == 200
    assert transactions == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/users/me"), ("POST", "/users/me/delete"), ("DELETE", "/users/me/sessions")],
)
async def test_what_ends_is_ended_in_one_transaction(
    server: Server, transactions: list[str], method: str, path: str
) -> None:
    """Sessions, begun logins, codes and the audit events about them."""
    _, bearer = await tokens_of(server)
    transactions.clear()
    the_only_one(transactions, await server.ask(method, path, **bearer), 204)


async def test_a_session_is_ended_in_one_transaction(server: Server, transactions: list[str]) -> None:
    """By its id, and by its refresh token."""
    first, bearer = await tokens_of(server)
    second, _ = await tokens_of(server)
    transactions.clear()
    answer = await server.ask("DELETE", f"/users/me/sessions/{second.partition('.')[0]}", **bearer)
    the_only_one(transactions, answer, 204)
    the_only_one(transactions, await server.ask("POST", "/auth/revoke", data={"token": first}))
