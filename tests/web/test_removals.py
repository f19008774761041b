"""What Meta sends when a person removes the app or wants their data deleted, and the page about a deletion."""

import asyncio
import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest

from nextarget.model import Millis, Provider
from nextarget.sandbox.people import CAST
from nextarget.storage.rows import users
from nextarget.tokens.encoding import base64url
from tests.apps import refresh, stands
from tests.running import Answer, Server, running
from tests.web.conftest import Log
from tests.web.session_rows import DAY_MS, change, recorded

FACEBOOK = Provider("facebook")
ADA = next(person for person in CAST if person.key == "ada").subject(FACEBOOK)


def signed(server: Server, *, secret: str | None = None, text: str | None = None, **payload: Any) -> str:
    """A signed_request about Ada, issued now, unless the arguments say otherwise."""
    about: dict[str, Any] = {"algorithm": "HMAC-SHA256", "issued_at": server.runtime.clock() // 1000, "user_id": ADA}
    if text is None:
        text = json.dumps({name: value for name, value in (about | payload).items() if value is not None})
    key = secret or server.runtime.settings.providers[FACEBOOK].client_secret.reveal()
    encoded = base64url(text.encode())
    return f"{base64url(hmac.digest(key.encode(), encoded.encode(), 'sha256'))}.{encoded}"


async def send(server: Server, kind: str, text: str) -> Answer:
    return await server.ask("POST", f"/auth/facebook/{kind}", data={"signed_request": text})


async def page(server: Server, url: str, language: str = "en") -> Answer:
    return await server.get(url, headers={"Accept": "text/html", "Accept-Language": language})


async def has_account(server: Server, tokens: dict[str, Any]) -> bool:
    return await server.runtime.database.read(users.get, tokens["user_id"]) is not None


async def test_removing_the_app_ends_the_sessions_of_that_person_alone(server: Server) -> None:
    """All sessions of the person end, the account stays, and nobody else notices. It is recorded once."""
    first, second = [(await server.sign_in("facebook")).json for _ in range(2)]
    at_google, other = (await server.sign_in()).json, (await server.sign_in("facebook", person="katherine")).json
    begun = await server.begin("facebook")
    callback = await server.approve(begun["auth_url"])
    await asyncio.sleep(0)
    text = signed(server)
    for _ in range(2):
        answer = await send(server, "deauthorize", text)
        assert (answer.status, answer.text) == (200, "")
    for ended in (first, second):
        assert (await server.me(ended["access_token"])).code == "invalid_token"
        assert (await refresh(server, ended["refresh_token"])).json["error"] == "invalid_grant"
    assert (await server.get(callback)).code == "sign_in_ended"  # this login began before
    for staying in (at_google, other):
        assert await stands(server, staying)
    assert await has_account(server, first)
    told = [event for event in await recorded(server, first["user_id"]) if event.event == "sessions_revoked"]
    assert [event.detail for event in told] == ["2 ended, removed at facebook"]
    assert (await server.sign_in("facebook")).json["user_id"] == first["user_id"]


async def test_a_late_removal_leaves_newer_sessions_alone(server: Server) -> None:
    """A request that comes late, or is sent again by a thief, ends only sessions that began before it was issued."""
    old, new = [(await server.sign_in("facebook")).json for _ in range(2)]
    await change(server, old["refresh_token"], created_at=server.runtime.clock() - 2 * DAY_MS)
    await age(server, old["user_id"], 3)
    assert (await send(server, "deauthorize", signed(server, issued_at=seconds_ago(server, DAY_MS)))).status == 200
    assert await stands(server, new)
    assert not await stands(server, old)


async def test_a_removal_ends_a_session_that_began_in_the_same_second(server: Server) -> None:
    """A sign-in that is faster than the request, which waits for the person's row, may open a session a moment later
    than the request came. The request ends that session too: it is of the second in which it was issued."""
    tokens = (await server.sign_in("facebook")).json
    second = server.runtime.clock() // 1000 + 1
    await change(server, tokens["refresh_token"], created_at=second * 1000)
    assert (await send(server, "deauthorize", signed(server, issued_at=second))).status == 200
    assert not await stands(server, tokens)


async def age(server: Server, user_id: str, days: int) -> None:
    """Make an account older."""
    created_at = server.runtime.clock() - days * DAY_MS

    def write(db: Any) -> None:
        db.execute_sql(f'UPDATE "user" SET "created_at" = {db.param} WHERE "id" = {db.param}', (created_at, user_id))

    await server.runtime.database.write(write)


def seconds_ago(server: Server, millis: int) -> int:
    return Millis(server.runtime.clock() - millis) // 1000


async def test_a_deletion_deletes_the_account_and_tells_the_person(server: Server, log: Log) -> None:
    """The account is gone, and Meta gets a URL and a code. The page at the URL says what happened and when, in English
    and French, and nothing about the person."""
    tokens = (await server.sign_in("facebook")).json
    staying = (await server.sign_in()).json
    answer = await send(server, "deletion", signed(server))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json) == {"url", "confirmation_code"}
    code = answer.json["confirmation_code"]
    assert code.isalnum()
    assert answer.json["url"] == f"{server.runtime.settings.public_url}/deletion/{code}"
    assert not await has_account(server, tokens)
    assert await stands(server, staying)
    assert (await server.me(tokens["access_token"])).code == "invalid_token"
    deleted = (await recorded(server, tokens["user_id"]))[0]
    assert (deleted.event, deleted.detail) == ("user_deleted", "requested at facebook")

    english, french = await page(server, answer.json["url"]), await page(server, answer.json["url"], "fr")
    assert "was deleted on" in english.text
    assert "ont été supprimés le" in french.text
    assert re.search(r"\b(1er|[1-9][0-9]?) [a-zéû]+ 20[0-9]{2}\b", french.text)
    for secret in (tokens["user_id"], str(ADA), "lovelace"):
        assert secret not in english.text
        assert not log.holds(secret) or secret == tokens["user_id"]


async def test_a_repeated_deletion_has_the_same_code_and_spares_a_new_account(server: Server) -> None:
    """The same request may come again, also after the person has signed up again: that account is newer."""
    first = (await server.sign_in("facebook")).json
    await age(server, first["user_id"], 3)
    text = signed(server, issued_at=seconds_ago(server, 5000))
    once = (await send(server, "deletion", text)).json
    again = (await server.sign_in("facebook")).json
    assert again["user_id"] != first["user_id"]
    assert (await send(server, "deletion", text)).json == once
    assert await has_account(server, again)
    assert "was deleted on" in (await page(server, once["url"])).text


async def test_a_deletion_keeps_its_code_when_the_secret_changes(tmp_path: Path) -> None:
    """A request that comes again after a change of secrets gets the code that it had."""
    async with running(tmp_path) as before:
        await before.sign_in("facebook")
        text, old = signed(before), before.runtime.settings.jwt_secret_key.reveal()
        once = (await send(before, "deletion", text)).json
    changed = {"JWT_SECRET_KEY": "new secret " * 8, "JWT_PREVIOUS_SECRET_KEYS": old, "PUBLIC_URL": before.url}
    async with running(tmp_path, **changed) as after:
        assert (await send(after, "deletion", text)).json == once
        assert "was deleted on" in (await page(after, once["url"])).text
        other = (await send(after, "deletion", signed(after, issued_at=1))).json
        assert other["confirmation_code"] != once["confirmation_code"]


async def test_a_deactivated_user_can_have_the_account_deleted(server: Server) -> None:
    """A right to deletion does not end with a deactivation."""
    tokens = (await server.sign_in("facebook")).json

    def deactivate(db: Any) -> None:
        users.set_active(db, tokens["user_id"], active=False)

    await server.runtime.database.write(deactivate)
    assert (await send(server, "deauthorize", signed(server))).status == 200
    assert await has_account(server, tokens)
    assert (await send(server, "deletion", signed(server))).status == 200
    assert not await has_account(server, tokens)


async def test_many_copies_of_a_deletion_at_once_agree(server: Server, log: Log) -> None:
    """Copies that arrive together get one answer, and the page and the log tell the deletion."""
    await server.sign_in("facebook")
    text = signed(server)
    answers = await asyncio.gather(*(send(server, "deletion", text) for _ in range(8)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert [line["outcome"] for line in log.events("deletion_requested")] == ["deletion_done"] * 8
    assert "was deleted on" in (await page(server, answers[0].json["url"])).text


async def test_a_deletion_older_than_the_account_is_ignored(server: Server) -> None:
    """A request that was issued before the account was made is about an earlier one. The same second is not before."""
    tokens = (await server.sign_in("facebook")).json
    late = await send(server, "deletion", signed(server, issued_at=seconds_ago(server, 5000)))
    assert await has_account(server, tokens)
    assert "is older than your account" in (await page(server, late.json["url"])).text
    user = await server.runtime.database.read(users.get, tokens["user_id"])
    assert user is not None
    assert (await send(server, "deletion", signed(server, issued_at=user.created_at // 1000))).status == 200
    assert not await has_account(server, tokens)


async def test_a_person_without_an_account_gets_a_code_too(server: Server) -> None:
    """Somebody who never signed in here, or whose account is gone, is told that there was nothing to delete."""
    answer = await send(server, "deletion", signed(server, user_id="999000999"))
    assert answer.status == 200
    assert "had no account here" in (await page(server, answer.json["url"])).text
    assert (await send(server, "deauthorize", signed(server, user_id="999000999"))).status == 200


async def test_a_number_as_user_id_is_the_same_person(server: Server) -> None:
    """Facebook writes ids as text and as numbers."""
    tokens = (await server.sign_in("facebook")).json
    assert (await send(server, "deletion", signed(server, user_id=int(str(ADA))))).status == 200
    assert not await has_account(server, tokens)


@pytest.mark.parametrize("kind", ["deauthorize", "deletion"])
@pytest.mark.parametrize(
    "forged",
    [
        pytest.param({"secret": "another app's secret"}, id="another secret"),
        pytest.param({"algorithm": "none"}, id="no algorithm"),
        pytest.param({"algorithm": None}, id="algorithm missing"),
        pytest.param({"algorithm": "HMAC-SHA1"}, id="weaker algorithm"),
        pytest.param({"user_id": None}, id="nobody"),
        pytest.param({"user_id": ["1"]}, id="a list"),
        pytest.param({"issued_at": None}, id="no time"),
        pytest.param({"issued_at": "yesterday"}, id="time in words"),
        pytest.param({"issued_at": True}, id="time is a boolean"),
        pytest.param({"issued_at": -1}, id="time before 1970"),
        pytest.param({"issued_at": float("nan")}, id="time is no number"),
        pytest.param({"code": "AQD"}, id="of the JavaScript SDK"),
        pytest.param({"oauth_token": "EAA"}, id="of a canvas page"),
        pytest.param({"text": "[]"}, id="not an object"),
        pytest.param({"text": "{"}, id="not JSON"),
        pytest.param({"text": "[" * 3000}, id="deep JSON"),
        pytest.param({"text": "\ud83d".encode("utf-8", "surrogatepass").decode("latin-1")}, id="not JSON at all"),
    ],
)
async def test_a_forged_request_does_nothing(server: Server, kind: str, forged: dict[str, Any]) -> None:
    """A request without the app's own signature, without a person and a time, or that a browser got when the person
    signed in, is refused with 400."""
    tokens = (await server.sign_in("facebook")).json
    answer = await send(server, kind, signed(server, **forged))
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert await stands(server, tokens)


@pytest.mark.parametrize(
    "change_of",
    [
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text.replace(".", ".."),
        lambda text: text.partition(".")[2],
        lambda text: f".{text.partition('.')[2]}",
        lambda text: f"{'A' * 43}.{text.partition('.')[2]}",
        lambda text: f" {text}",
        lambda text: f"{text}\0",
        lambda _: "x" * 9000,
    ],
)
async def test_a_request_with_one_changed_part_is_refused(server: Server, change_of: Any) -> None:
    """A genuine request that was changed anywhere is a forgery."""
    tokens = (await server.sign_in("facebook")).json
    answer = await send(server, "deletion", change_of(signed(server)))
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert await stands(server, tokens)


async def test_a_padded_signature_is_accepted(server: Server) -> None:
    """Base64url with padding is the same signature."""
    tokens = (await server.sign_in("facebook")).json
    signature, _, payload = signed(server).partition(".")
    assert (await send(server, "deletion", f"{signature}=.{payload}")).status == 200
    assert not await has_account(server, tokens)


@pytest.mark.parametrize("path", ["/auth/google/deauthorize", "/auth/google/deletion", "/auth/nobody/deletion"])
async def test_other_providers_have_no_such_route(server: Server, path: str) -> None:
    """Only providers that send such requests have the routes."""
    assert (await server.ask("POST", path, data={"signed_request": signed(server)})).status == 404


@pytest.mark.parametrize("data", [b"", b"signed_request=", b"signed_request=a&signed_request=b", b'{"a": 1}'])
async def test_a_malformed_form_is_refused(server: Server, data: bytes) -> None:
    """A body without exactly one signed_request is refused with a problem document."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await server.ask("POST", "/auth/facebook/deletion", data=data, headers=headers)
    assert (answer.status, answer.code) == (400, "invalid_request")


@pytest.mark.parametrize("code", ["0" * 32, "f" * 32])
async def test_an_unknown_code_tells_nothing(server: Server, code: str, log: Log) -> None:
    """A code that nobody got is 404: a page for a person, a problem document for a program. The log does not call it a
    sign-in that failed."""
    answer = await server.get(f"/deletion/{code}")
    assert (answer.status, answer.code) == (404, "deletion_unknown")
    shown = await page(server, f"/deletion/{code}", "fr")
    assert (shown.status, "Demande inconnue" in shown.text) == (404, True)
    assert log.failures == []


@pytest.mark.parametrize("code", ["0", "G" * 32, "%00" * 8, "0" * 33])
async def test_a_mistyped_code_is_an_unknown_one(server: Server, code: str) -> None:
    """The person gets the page, too. Only text that can be a code is looked up."""
    answer = await server.get(f"/deletion/{code}")
    assert (answer.status, answer.code) == (404, "deletion_unknown")
    assert "Demande inconnue" in (await page(server, f"/deletion/{code}", "fr")).text


async def test_refused_requests_are_limited_and_genuine_ones_are_not(tmp_path: Path) -> None:
    """Forgeries count against their address. Genuine requests of all people come from a few addresses of Meta's, and
    pass even there."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true", RATE_LIMIT_FINISH="3") as server:
        statuses = [(await send(server, "deletion", "forged")).status for _ in range(4)]
        assert statuses == [400, 400, 400, 429]
        for number in range(5):
            assert (await send(server, "deletion", signed(server, user_id=str(number)))).status == 200


async def test_codes_cannot_be_guessed_without_a_limit(tmp_path: Path) -> None:
    """The page counts against the address of the client, whether the code is known or not."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true", RATE_LIMIT_FINISH="3") as server:
        url = (await send(server, "deletion", signed(server, user_id="1"))).json["url"]
        asked = [await server.get(each) for each in (url, f"/deletion/{'0' * 32}", url, url)]
        assert [answer.status for answer in asked] == [200, 404, 200, 429]
        assert int(asked[3].headers["Retry-After"]) > 0
        assert all('"deletion"' in answer.headers["RateLimit-Policy"] for answer in asked)
