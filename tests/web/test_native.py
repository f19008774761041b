"""Native sign-in: an app exchanges a token of the provider's SDK for our tokens (RFC 8693), with a nonce that we
issued."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from nextarget.errors import UserDeactivated
from nextarget.model import Millis, Provider
from nextarget.registry import PROVIDERS
from nextarget.sandbox.people import ID_TOKEN_FAULTS, PEOPLE, Fault, people_of
from nextarget.sandbox.standins.facebook_sdk import ACCESS_TOKEN_FAULTS
from nextarget.services import accounts
from nextarget.services.sessions import end_all
from nextarget.storage.rows import audit, users
from nextarget.tokens import one_time
from nextarget.web.app_keys import ONLINE
from tests.apps import assert_oauth_error, stands
from tests.running import Answer, Server, running
from tests.web.conftest import Log

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
BOTH = pytest.mark.parametrize("provider", PROVIDERS)


class Phone:
    """An app with the providers' SDKs in it."""

    def __init__(self, server: Server) -> None:
        self.server = server

    async def nonce(self) -> str:
        answer = await self.server.ask("POST", "/auth/nonce")
        assert answer.status == 200, answer.text
        return answer.json["nonce"]

    async def sdk(self, provider: str, **parameters: str | None) -> dict[str, str]:
        """The answer of the SDK to the app."""
        kind = {"kind": "limited"} if provider == "facebook" else {}
        chosen = {"person": "ada"} | kind | parameters
        query = "&".join(f"{name}={quote(text, safe='')}" for name, text in chosen.items() if text is not None)
        answer = await self.server.get(f"/sandbox/{provider}/sdk?{query}")
        assert answer.status == 200, answer.text
        return answer.json

    async def id_token(self, provider: str, **parameters: str | None) -> str:
        """An id_token, with a new nonce of ours unless another one is given."""
        nonce = parameters["nonce"] if "nonce" in parameters else await self.nonce()
        return (await self.sdk(provider, **(parameters | {"nonce": nonce})))["id_token"]

    async def access_token(self, **parameters: str | None) -> str:
        """A user access token of classic Facebook Login."""
        return (await self.sdk("facebook", kind="classic", **parameters))["access_token"]

    async def exchange(self, provider: str, token: str, kind: str = ID_TOKEN, **changes: str) -> Answer:
        form = {
            "grant_type": EXCHANGE,
            "client_id": "nextarget-app",
            "subject_issuer": provider,
            "subject_token_type": kind,
            "subject_token": token,
        } | changes
        return await self.server.ask("POST", "/auth/token", data=form)

    async def sign_in(self, provider: str, **parameters: str | None) -> dict[str, Any]:
        answer = await self.exchange(provider, await self.id_token(provider, **parameters))
        assert answer.status == 200, answer.text
        return answer.json


@pytest.fixture
def phone(server: Server) -> Phone:
    return Phone(server)


def assert_refused(answer: Answer, why: str, token: str = "") -> None:
    """RFC 8693, 2.2.2: the error for any bad token is invalid_request. It names the broken rule and quotes nothing of
    the token."""
    assert_oauth_error(answer, "invalid_request")
    assert why in answer.json["error_description"]
    assert all(part not in answer.text for part in token.split(".") if len(part) > 8)


@contextmanager
def seconds_later(server: Server, seconds: int) -> Iterator[None]:
    """Make all nonces this many seconds older."""
    native, now = server.app[ONLINE].native, server.runtime.clock
    native._clock = lambda: Millis(now() + seconds * 1000)
    yield
    native._clock = now


async def test_a_nonce_is_random_and_lives_ten_minutes(phone: Phone) -> None:
    """A nonce must not be cached. It is not stored, because its MAC shows that we issued it."""
    answer = await phone.server.ask("POST", "/auth/nonce")
    assert answer.json.keys() == {"nonce", "expires_in"}
    assert answer.json["expires_in"] == 600
    assert answer.headers["Cache-Control"] == "no-store"
    nonces = {answer.json["nonce"], *[await phone.nonce() for _ in range(4)]}
    assert len(nonces) == 5
    assert all(len(nonce) == one_time.LENGTH for nonce in nonces)
    assert await kept(phone.server) == set()
    assert (await phone.server.get("/auth/nonce")).status == 405


async def kept(server: Server) -> set[str]:
    """The digests of nonces in the database."""
    rows = await server.runtime.database.read(lambda db: db.execute_sql("SELECT digest FROM nonce").fetchall())
    return {digest for (digest,) in rows}


@BOTH
async def test_of_a_nonce_that_was_used_the_digest_is_kept(server: Server, phone: Phone, provider: Provider) -> None:
    """A refused token does not use its nonce up."""
    nonce = await phone.nonce()
    for fault in ("bad_signature", None):
        assert await kept(server) == set()
        token = await phone.id_token(provider, nonce=nonce, fault=fault)
        answer = await phone.exchange(provider, token)
        assert answer.status == (400 if fault else 200)
    assert await kept(server) == {hashlib.sha256(nonce.encode()).hexdigest()}


@BOTH
async def test_an_id_token_of_the_sdk_signs_the_person_in(server: Server, phone: Phone, provider: Provider) -> None:
    """RFC 8693, 2.2.1: the answer has our tokens and issued_token_type, and must not be cached."""
    answer = await phone.exchange(provider, await phone.id_token(provider), device_name="Ada's phone")
    assert answer.status == 200
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
    tokens = answer.json
    assert tokens.keys() == {
        "access_token", "issued_token_type", "token_type", "expires_in", "refresh_token",
        "email", "email_verified", "provider", "user_id", "scope",
    }  # fmt: skip
    assert (tokens["issued_token_type"], tokens["token_type"], tokens["expires_in"]) == (ACCESS_TOKEN, "bearer", 3600)
    assert (tokens["provider"], tokens["email"]) == (provider, PEOPLE["ada"].email)
    assert tokens["email_verified"] is (provider != Provider("facebook"))
    assert await stands(server, tokens)
    listed = await server.get("/users/me/sessions", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert [session["label"] for session in listed.json["sessions"]] == ["Ada's phone"]


async def test_a_classic_access_token_of_facebook_signs_the_person_in(server: Server, phone: Phone) -> None:
    """debug_token must confirm that the token was made for us. The token has no nonce, because it cannot contain
    one."""
    answer = await phone.exchange("facebook", await phone.access_token(), ACCESS_TOKEN)
    assert answer.status == 200
    assert answer.json["issued_token_type"] == ACCESS_TOKEN
    assert (answer.json["provider"], answer.json["email_verified"]) == ("facebook", False)
    assert await stands(server, answer.json)


@pytest.mark.parametrize(
    ("provider", "key"), [(provider, person.key) for provider in PROVIDERS for person in people_of(provider)]
)
async def test_natively_and_in_the_browser_a_person_is_the_same_user(
    server: Server, phone: Phone, provider: Provider, key: str
) -> None:
    """The provider's subject identifies the user, whichever way the person signed in."""
    user_ids = {
        (await server.sign_in(provider, person=key)).json["user_id"],
        (await phone.sign_in(provider, person=key))["user_id"],
    }
    if provider == Provider("facebook"):
        token = await phone.access_token(person=key)
        user_ids.add((await phone.exchange(provider, token, ACCESS_TOKEN)).json["user_id"])
    assert len(user_ids) == 1
    assert len(await server.runtime.database.read(users.page)) == 1


async def test_each_of_our_google_clients_is_an_audience(server: Server, phone: Phone) -> None:
    """An SDK puts the server's or the app's client id into `aud`, and the app's client id into `azp`."""
    settings = server.runtime.settings
    for client_id in (settings.providers["google"].client_id, *settings.providers["google"].client_ids):
        assert (await phone.sign_in("google", client_id=client_id))["provider"] == "google"


async def test_an_app_that_is_not_listed_is_no_audience(tmp_path: Path) -> None:
    """With GOOGLE_CLIENT_IDS unset, the app's client id is refused both as `aud` and as `azp`."""
    async with running(tmp_path) as server:
        [app_client_id] = server.runtime.settings.providers["google"].client_ids
    async with running(tmp_path, GOOGLE_CLIENT_IDS="") as server:
        phone = Phone(server)
        token = await phone.id_token("google", client_id=app_client_id)
        assert_refused(await phone.exchange("google", token), "(aud)", token)
        token = await phone.id_token("google")
        assert_refused(await phone.exchange("google", token), "(azp)", token)


@BOTH
async def test_a_nonce_that_the_sdk_hashed_comes_beside_the_token(phone: Phone, provider: Provider) -> None:
    """The token may contain the SHA-256 of the nonce in hex, if the form has the nonce itself. A nonce that was not
    hashed may also be in the form."""
    nonce = await phone.nonce()
    token = await phone.id_token(provider, nonce=hashlib.sha256(nonce.encode()).hexdigest())
    assert_refused(await phone.exchange(provider, token), "nonce", token)
    assert_refused(await phone.exchange(provider, token, nonce=await phone.nonce()), "nonce", token)
    assert (await phone.exchange(provider, token, nonce=nonce)).status == 200
    assert_refused(await phone.exchange(provider, token, nonce=nonce), "used already", token)
    plain = await phone.nonce()
    token = await phone.id_token(provider, nonce=plain)
    assert (await phone.exchange(provider, token, nonce=plain)).status == 200


@BOTH
async def test_a_hash_of_a_nonce_is_not_a_nonce(phone: Phone, provider: Provider) -> None:
    """The digest in the database, or the hash in a token, cannot replace the nonce itself."""
    nonce = await phone.nonce()
    hashed = hashlib.sha256(nonce.encode()).hexdigest()
    for raw in (hashed, nonce.upper(), nonce + " "):
        token = await phone.id_token(provider, nonce=hashed)
        assert_refused(await phone.exchange(provider, token, nonce=raw), "nonce", token)
    assert (await phone.exchange(provider, token, nonce=nonce)).status == 200


@BOTH
async def test_a_nonce_is_good_once(phone: Phone, provider: Provider) -> None:
    """A copied token cannot be used again, and neither can another token with the same nonce."""
    nonce = await phone.nonce()
    token = await phone.id_token(provider, nonce=nonce)
    assert (await phone.exchange(provider, token)).status == 200
    for again in (token, await phone.id_token(provider, nonce=nonce), await phone.id_token(provider, nonce=nonce)):
        assert_refused(await phone.exchange(provider, again), "used already", again)


@BOTH
async def test_of_many_uses_of_a_nonce_at_the_same_moment_one_wins(phone: Phone, provider: Provider) -> None:
    """One statement uses a nonce up, so that one of many simultaneous exchanges succeeds."""
    token = await phone.id_token(provider)
    answers = await asyncio.gather(*(phone.exchange(provider, token) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [200] + [400] * 9
    for answer in answers:
        if answer.status == 400:
            assert_refused(answer, "used already", token)


@BOTH
async def test_a_nonce_that_is_not_ours_or_too_old_is_refused(phone: Phone, provider: Provider) -> None:
    """A nonce from elsewhere or an old one is refused. Otherwise a token made for another purpose could be used to sign
    in."""
    for foreign in ("made-up", "x" * 43):
        token = await phone.id_token(provider, nonce=foreign)
        assert_refused(await phone.exchange(provider, token), "not issued here", token)
        assert_refused(await phone.exchange(provider, token, nonce=foreign), "not issued here", token)
    token = await phone.id_token(provider, nonce=None)  # Facebook's SDK then makes one up
    assert_refused(await phone.exchange(provider, token), "nonce", token)
    token = await phone.id_token(provider)
    with seconds_later(phone.server, 601):
        assert_refused(await phone.exchange(provider, token), "has expired", token)
    with seconds_later(phone.server, 590):
        assert (await phone.exchange(provider, token)).status == 200


REASONS: dict[Fault, str | None] = {
    Fault.BAD_SIGNATURE: "signature not valid",
    Fault.ALG_NONE: "not RS256",
    Fault.HS256_PUBLIC_KEY: "not RS256",
    Fault.CRITICAL_HEADER: "demands an extension",
    Fault.WRONG_AUDIENCE: "made for another client (aud)",
    Fault.WRONG_ISSUER: "of another issuer",
    Fault.EXPIRED: "expired",
    Fault.ISSUED_IN_FUTURE: "issued in the future",
    Fault.CLOCK_SKEW: None,
    Fault.WRONG_NONCE: "nonce was not issued here",
    Fault.MISSING_NONCE: "nonce wrong or missing",
    Fault.MISSING_SUB: "without a usable sub",
    Fault.OTHER_AZP: "issued to another client (azp)",
    Fault.EVENTS_CLAIM: "security event token",
    Fault.GARBAGE_TOKEN: "malformed",
    Fault.HUGE_TOKEN: "",  # larger than a request may be
    Fault.ROTATED_KEYS: None,
    Fault.UNKNOWN_KID: "not signed by this provider",
}
"""The reason that the app gets for a fault. None if the token is accepted."""


@BOTH
@pytest.mark.parametrize("fault", ID_TOKEN_FAULTS)
async def test_a_faulty_id_token_is_refused_and_leaves_the_nonce_alone(
    server: Server, phone: Phone, provider: Provider, fault: Fault
) -> None:
    """OpenID Connect Core, 3.1.3.7: a faulty token is refused with the rule that it broke. It does not use up the
    nonce."""
    nonce = await phone.nonce()
    token = await phone.id_token(provider, nonce=nonce, fault=fault)
    answer = await phone.exchange(provider, token)
    if REASONS[fault] is None:
        assert answer.status == 200, answer.text
        assert await stands(server, answer.json)
        return
    if fault is Fault.HUGE_TOKEN:
        assert_oauth_error(answer, "invalid_request", 413)
    else:
        assert_refused(answer, REASONS[fault] or "", token)
    assert await server.runtime.database.read(users.page) == []
    assert (await phone.exchange(provider, await phone.id_token(provider, nonce=nonce))).status == 200


CLASSIC: dict[Fault, tuple[int, str, str]] = {
    Fault.EXPIRED: (400, "invalid_request", "access token expired"),
    Fault.INVALID_TOKEN: (400, "invalid_request", "access token not valid"),
    Fault.FOREIGN_APP: (400, "invalid_request", "made for another app"),
    Fault.OTHER_APP: (400, "invalid_request", "made for another app"),
    Fault.OTHER_USER: (400, "invalid_request", "two people"),
    Fault.MISSING_ID: (400, "invalid_request", "without a usable id"),
    Fault.GRAPH_ERROR: (400, "invalid_request", "not valid any more"),
    Fault.RATE_LIMITED: (503, "temporarily_unavailable", "cannot be reached"),
    Fault.GRAPH_UNKNOWN: (503, "temporarily_unavailable", "cannot be reached"),
    Fault.GRAPH_DOWN: (503, "temporarily_unavailable", "cannot be reached"),
    Fault.BLOCKED: (503, "temporarily_unavailable", "cannot be reached"),
    Fault.SESSION_ENDED: (400, "invalid_request", "not valid any more"),
}


@pytest.mark.parametrize("fault", [fault for fault in ACCESS_TOKEN_FAULTS if fault is not Fault.ODD_TYPES])
async def test_a_faulty_access_token_of_facebook_is_refused(server: Server, phone: Phone, fault: Fault) -> None:
    """debug_token is asked first, because only its answer shows for which app and which person the token was made."""
    status, error, why = CLASSIC[fault]
    token = await phone.access_token(fault=fault)
    answer = await phone.exchange("facebook", token, ACCESS_TOKEN)
    assert_oauth_error(answer, error, status)
    assert why in answer.json["error_description"]
    assert token not in answer.text
    assert await server.runtime.database.read(users.page) == []


async def test_a_token_whose_ids_are_numbers_signs_in_all_the_same(server: Server, phone: Phone) -> None:
    """Facebook writes ids and times as numbers or as text. Both lead to the same user."""
    usual, odd = [
        await phone.exchange("facebook", await phone.access_token(fault=fault), ACCESS_TOKEN)
        for fault in (None, Fault.ODD_TYPES)
    ]
    assert usual.json["user_id"] == odd.json["user_id"]
    assert await stands(server, odd.json)


@pytest.mark.parametrize(("fault", "seconds"), [(Fault.GRAPH_DOWN, "120"), (Fault.BLOCKED, "300")])
async def test_how_long_the_provider_asks_to_be_left_alone_is_passed_on(
    phone: Phone, fault: Fault, seconds: str
) -> None:
    """RFC 9110, 10.2.3: the app gets Retry-After from the provider, of at most five minutes."""
    answer = await phone.exchange("facebook", await phone.access_token(fault=fault), ACCESS_TOKEN)
    assert_oauth_error(answer, "temporarily_unavailable", 503)
    assert answer.headers["Retry-After"] == seconds


@pytest.mark.parametrize("token", ["foreign_app", "no token at all"])
async def test_a_bad_token_is_told_apart_from_a_wrong_secret_of_ours(tmp_path: Path, log: Log, token: str) -> None:
    """Facebook's error is the same for both. If it accepts our own app token, the presented token is bad. Otherwise our
    secret is wrong."""
    async with running(tmp_path) as server:
        phone = Phone(server)
        presented = await phone.access_token(fault=token) if token == "foreign_app" else "no-token-at-all"
        for _ in range(3):
            assert_oauth_error(await phone.exchange("facebook", presented, ACCESS_TOKEN), "invalid_request")
        asked = [line for line in log.events("request") if str(line["route"]).endswith("/debug_token")]
        assert len(asked) == 3 + 1, "our own token must be checked once"
    async with running(tmp_path, FACEBOOK_CLIENT_SECRET="0123456789abcdef0123456789abcdef") as server:
        phone = Phone(server)
        presented = await phone.access_token(fault=token) if token == "foreign_app" else "no-token-at-all"
        for _ in range(3):
            assert_oauth_error(await phone.exchange("facebook", presented, ACCESS_TOKEN), "server_error", 502)
        assert "FACEBOOK_CLIENT_SECRET" in log.events("problem")[-1]["reason"]


async def test_a_token_of_the_other_provider_or_kind_is_refused(phone: Phone, subtests: pytest.Subtests) -> None:
    """A token is checked as the kind and for the provider that the app names."""
    google, limited = await phone.sdk("google", nonce=await phone.nonce()), await phone.id_token("facebook")
    classic = await phone.access_token()
    for name, (provider, token, kind, why) in {
        "Facebook's id_token as Google's": ("google", limited, ID_TOKEN, "not signed by this provider"),
        "Google's id_token as Facebook's": ("facebook", google["id_token"], ID_TOKEN, "not signed by this provider"),
        "Google's access token": ("google", google["access_token"], ACCESS_TOKEN, "id_token"),
        "Google's access token as an id_token": ("google", google["access_token"], ID_TOKEN, "malformed"),
        "Google's access token as Facebook's": ("facebook", google["access_token"], ACCESS_TOKEN, "not valid"),
        "Google's id_token as an access token": ("google", google["id_token"], ACCESS_TOKEN, "id_token"),
        "Facebook's id_token as an access token": ("facebook", limited, ACCESS_TOKEN, "not valid"),
        "Facebook's access token as an id_token": ("facebook", classic, ID_TOKEN, "malformed"),
        "Facebook's access token as Google's": ("google", classic, ID_TOKEN, "malformed"),
        "a made-up access token": ("facebook", "x", ACCESS_TOKEN, "not valid"),
        "an access token with a space": ("facebook", "a b", ACCESS_TOKEN, "malformed"),
    }.items():
        with subtests.test(name):
            assert_refused(await phone.exchange(provider, token, kind), why, token)


async def test_a_token_of_our_own_is_no_subject_token(server: Server, phone: Phone) -> None:
    """Our own access token cannot be exchanged for another one."""
    ours = (await server.sign_in()).json["access_token"]
    assert_refused(await phone.exchange("google", ours), "not RS256", ours)
    assert_refused(await phone.exchange("facebook", ours, ACCESS_TOKEN), "not valid", ours)


def _part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


GARBLINGS: list[Callable[[str], str]] = [
    lambda token: "",
    lambda token: ".",
    lambda token: "..",
    lambda token: token.rpartition(".")[0],
    lambda token: token + ".x",
    lambda token: token[:-20],
    lambda token: "=" + token,
    lambda token: token.replace(".", ".%", 1),
    lambda token: ".".join([token.split(".")[0], _part([]), token.split(".")[2]]),
    lambda token: ".".join([_part([]), *token.split(".")[1:]]),
    lambda token: ".".join([_part({"alg": "RS256", "kid": 1}), *token.split(".")[1:]]),
    lambda token: "eyJ" + "[" * 12_000 + ".e30.e30",
    lambda token: base64.urlsafe_b64encode(b"[" * 9000).decode() + ".e30.e30",
    lambda token: "x" * 16_384,
    lambda token: "x" * 16_385,
]


async def test_a_garbled_token_is_refused(phone: Phone, subtests: pytest.Subtests) -> None:
    """A token with any wrong content leads to a 400, never to a 500."""
    token = await phone.id_token("google")
    for garble in GARBLINGS:
        with subtests.test(garbled=garble(token)[:60]):
            assert_oauth_error(await phone.exchange("google", garble(token)), "invalid_request")
    assert (await phone.exchange("google", token)).status == 200


async def test_a_request_that_is_not_quite_an_exchange_is_told_what_is_wrong(
    phone: Phone, subtests: pytest.Subtests
) -> None:
    """RFC 8693, 2.1, and our `subject_issuer`: the error names the parameter, and the nonce is not used up."""
    token = await phone.id_token("google")
    for changes, why in (
        ({"subject_token": ""}, "subject_token"),
        ({"subject_token_type": ""}, "subject_token_type"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "subject_token_type"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "subject_token_type"),
        ({"subject_token_type": "id_token"}, "subject_token_type"),
        ({"subject_issuer": ""}, "subject_issuer"),
        ({"subject_issuer": "twitter"}, "subject_issuer"),
        ({"subject_issuer": "https://accounts.google.com"}, "subject_issuer"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:id_token"}, "requested_token_type"),
        ({"actor_token": "x"}, "actor_token"),
        ({"nonce": "x" * 257}, "nonce"),
        ({"device_name": "x" * 101}, "device_name"),
    ):
        with subtests.test(changes=changes):
            assert_refused(await phone.exchange("google", token, **changes), f"'{why}'")
    answer = await phone.exchange("google", token, requested_token_type=ACCESS_TOKEN, client_id="")
    assert answer.status == 200


async def test_a_provider_that_is_not_configured_is_told(tmp_path: Path) -> None:
    """RFC 6749, 5.2: the status is 400, as for every mistake in a token request."""
    off = {f"FACEBOOK_{name}": "" for name in ("CLIENT_ID", "CLIENT_SECRET", "REDIRECT_URI")}
    async with running(tmp_path, **off) as server:
        assert_refused(await Phone(server).exchange("facebook", "x", ACCESS_TOKEN), "not configured")


@BOTH
async def test_a_deactivated_person_is_refused(server: Server, phone: Phone, provider: Provider, log: Log) -> None:
    """RFC 8693, 2.2.2: the error is invalid_request, with a text that says what to do. The attempt is in the log and in
    the user's audit events."""
    tokens = await phone.sign_in(provider)
    database = server.runtime.database
    [user] = await database.read(users.page)
    await database.write(accounts.set_active, user, active=False, now=server.runtime.clock())
    assert_refused(await phone.exchange(provider, await phone.id_token(provider)), UserDeactivated.sentence)
    assert not await stands(server, tokens)
    [line] = [line for line in log.lines if "deactivated" in line.get("reason", "")]
    assert line["user_id"] == user.id
    [attempt, *_] = await database.read(audit.latest_of_user, user.id)
    assert (attempt.event, attempt.detail) == ("login_failed", "user_deactivated: Account deactivated")


@BOTH
async def test_unknown_keys_are_not_looked_for_at_every_request(phone: Phone, provider: Provider, log: Log) -> None:
    """Tokens with made-up key ids do not make the server fetch the provider's keys again and again."""
    for _ in range(5):
        token = await phone.id_token(provider, fault="unknown_kid")
        assert_refused(await phone.exchange(provider, token), "not signed by this provider", token)
    assert (await phone.sign_in(provider))["provider"] == provider
    routes = {"google": "google/jwks", "facebook": "facebook/limited/jwks", "apple": "apple/auth/keys"}
    assert len(log.requests(f"/sandbox/{routes[provider]}")) == 1


@BOTH
async def test_neither_log_nor_answer_holds_anything_of_a_token(phone: Phone, provider: Provider, log: Log) -> None:
    """Neither good nor bad tokens appear in the log, in whole or in part, and neither do nonces, emails or our own
    tokens."""
    secrets: set[str] = set()
    for fault in (None, Fault.BAD_SIGNATURE, Fault.WRONG_AUDIENCE, Fault.ALG_NONE, Fault.WRONG_NONCE):
        nonce = await phone.nonce()
        token = await phone.id_token(provider, nonce=nonce, fault=fault)
        answer = await phone.exchange(provider, token, nonce=nonce)
        parts = {part for part in token.split(".") if part}
        assert not any(part in answer.text for part in parts)
        secrets |= parts | {nonce, hashlib.sha256(nonce.encode()).hexdigest()}
        if answer.status == 200:
            secrets |= {answer.json["refresh_token"], *answer.json["access_token"].split(".")[1:]}
    for fault in (None, Fault.GRAPH_ERROR, Fault.OTHER_APP, Fault.INVALID_TOKEN):
        classic = await phone.access_token(fault=fault)
        answer = await phone.exchange("facebook", classic, ACCESS_TOKEN)
        assert classic not in answer.text
        secrets.add(classic)
    assert len(log.events("login_succeeded")) == 2
    assert len(log.events("problem")) == 7
    for secret in (*secrets, PEOPLE["ada"].email or ""):
        assert not log.holds(secret)


async def test_an_access_token_of_before_every_session_ended_signs_nobody_in(server: Server, phone: Phone) -> None:
    """A classic access token can be presented again while it is valid. So it is refused if all sessions ended after it
    was issued. A newer one is accepted."""
    old = await phone.access_token()
    tokens = (await phone.exchange("facebook", old, ACCESS_TOKEN)).json
    user = await server.runtime.database.read(users.get, tokens["user_id"])
    assert user is not None
    in_a_minute = Millis(server.runtime.clock() + 60_000)
    await server.runtime.database.write(end_all, user, now=in_a_minute)
    refused = await phone.exchange("facebook", old, ACCESS_TOKEN)
    assert_refused(refused, "ended after this sign-in began", old)
    assert not await stands(server, tokens)
    await server.runtime.database.write(users.end_sessions, user.id, Millis(in_a_minute - 120_000))
    assert (await phone.exchange("facebook", await phone.access_token(), ACCESS_TOKEN)).status == 200
