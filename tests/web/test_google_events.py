"""What Google sends when something happened to a person's Google account (Cross-Account Protection)."""

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nextarget.model import Provider
from nextarget.sandbox.people import CAST
from nextarget.sandbox.standins.id_tokens import SigningKey
from nextarget.storage.rows import users
from nextarget.web.app_keys import SANDBOX
from tests.apps import refresh, stands
from tests.running import Answer, Server, free_listener, running
from tests.tokens.forging import hs256, rs256, segment, unsigned
from tests.web.conftest import Log
from tests.web.session_rows import DAY_MS, change, recorded

GOOGLE = Provider("google")
ADA = next(person for person in CAST if person.key == "ada").subject(GOOGLE)
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
OAUTH = "https://schemas.openid.net/secevent/oauth/event-type/"
REVOKED = f"{RISC}sessions-revoked"
ENDING = [
    pytest.param(REVOKED, {}, id="sessions revoked"),
    pytest.param(f"{OAUTH}tokens-revoked", {}, id="tokens revoked"),
    pytest.param(f"{RISC}account-disabled", {"reason": "hijacking"}, id="hijacked"),
]


def google_key(server: Server) -> RSAPrivateKey:
    """The key with which the stand-in Google signs."""
    client: Any = server.app[SANDBOX].clients[GOOGLE]
    return client.private_key


def subject(server: Server, sub: object = ADA, **members: Any) -> dict[str, Any]:
    return {"subject_type": "iss-sub", "iss": f"{issuer(server)}/", "sub": sub} | members


def issuer(server: Server) -> str:
    return server.runtime.settings.providers[GOOGLE].issuer


def header(server: Server, **members: Any) -> dict[str, Any]:
    kid = SigningKey.of(google_key(server)).kid
    return given({"alg": "RS256", "kid": kid, "typ": "secevent+jwt"} | members)


def claims(server: Server, event_type: str = REVOKED, told: Any = None, **members: Any) -> dict[str, Any]:
    """The claims of a token about Ada, issued now, unless the arguments say otherwise. None leaves a claim out."""
    return given(
        {
            "iss": f"{issuer(server)}/",
            "aud": server.runtime.settings.providers[GOOGLE].client_id,
            "iat": server.runtime.clock() // 1000,
            "jti": secrets.token_hex(16),
            "events": {event_type: {"subject": subject(server)} | (told or {})},
        }
        | members
    )


def given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def signed(server: Server, event_type: str = REVOKED, told: Any = None, **members: Any) -> str:
    return rs256(header(server), claims(server, event_type, told, **members), google_key(server))


async def send(server: Server, token: str | bytes) -> Answer:
    headers = {"Content-Type": "application/secevent+jwt", "Accept": "application/json"}
    return await server.ask("POST", "/auth/google/events", data=token, headers=headers)


def assert_refused(answer: Answer, err: str) -> None:
    """RFC 8935, 2.3: 400, a JSON object with `err` and `description`, and its language."""
    assert (answer.status, answer.json["err"]) == (400, err)
    assert answer.json.keys() == {"err", "description"}
    assert answer.json["description"].endswith(".")
    assert (answer.headers["Content-Type"], answer.headers["Content-Language"]) == ("application/json", "en")


@pytest.mark.parametrize(("event_type", "told"), ENDING)
async def test_an_event_ends_the_sessions_of_that_person_alone(
    server: Server, event_type: str, told: dict[str, Any], log: Log
) -> None:
    """For these events, Google's guide asks to end the open sessions. A sign-in that has begun ends too; the account
    and the other people stay, and the person can sign in again."""
    first, second = [(await server.sign_in()).json for _ in range(2)]
    other, at_facebook = (await server.sign_in(person="grace")).json, (await server.sign_in("facebook")).json
    callback = await server.approve((await server.begin())["auth_url"])
    answer = await send(server, signed(server, event_type, told))
    assert (answer.status, answer.text) == (202, "")
    for ended in (first, second):
        assert (await server.me(ended["access_token"])).code == "invalid_token"
        assert (await refresh(server, ended["refresh_token"])).json["error"] == "invalid_grant"
    assert (await server.get(callback)).code == "sign_in_ended"
    for staying in (other, at_facebook):
        assert await stands(server, staying)
    kind = event_type.rpartition("/")[2]
    ended_at = [event.detail for event in await recorded(server, first["user_id"]) if event.event == "sessions_revoked"]
    assert ended_at == [f"2 ended, {kind} at google"]
    (line,) = log.events("security_event")
    assert (line["kind"], line["outcome"], line["user_id"]) == (kind, "sessions_ended", first["user_id"])
    assert not log.holds(str(ADA))
    assert (await server.sign_in()).json["user_id"] == first["user_id"]


@pytest.mark.parametrize(
    ("event_type", "told", "detail"),
    [
        (f"{RISC}account-disabled", {"reason": "bulk-account"}, "account-disabled at google, bulk-account"),
        (f"{RISC}account-disabled", {}, "account-disabled at google"),
        (f"{RISC}account-disabled", {"reason": ["hijacking"]}, "account-disabled at google"),
        (f"{RISC}account-enabled", {}, "account-enabled at google"),
        (f"{RISC}account-credential-change-required", {}, "account-credential-change-required at google"),
        (f"{RISC}account-purged", {}, f"unknown at google, {RISC}account-purged"),
        ("urn:of:tomorrow", {"subject": None}, None),
        ("urn:of:tomorrow\n", {}, "unknown at google"),
        ("urn:of:ada@example.org", {}, "unknown at google"),
        (f"urn:{'a1' * 22}", {}, "unknown at google"),
        (f"{RISC}account-disabled", {"reason": "told ada%40example.org"}, "account-disabled at google"),
    ],
)
async def test_other_events_are_recorded_and_end_nothing(
    server: Server, event_type: str, told: dict[str, Any], detail: str | None
) -> None:
    """The guide demands nothing for them. Unknown types are accepted, so that Google does not send them again."""
    tokens = (await server.sign_in()).json
    assert (await send(server, signed(server, event_type, told))).status == 202
    assert await stands(server, tokens)
    newest = (await recorded(server, tokens["user_id"]))[0]
    assert (newest.event, newest.detail) == (("security_event", detail) if detail else ("login_succeeded", None))


async def test_events_without_a_person_are_logged(server: Server, log: Log) -> None:
    """A verification has the text that was asked for. A revoked token of Google's concerns nobody here, because none is
    kept: Google names the token by a part or a hash of it, and not the person."""
    by_hash = {"subject_type": "oauth_token", "token_type": "refresh_token", "token": "c2VjcmV0LWhhc2g="}
    by_hash["token_identifier_alg"] = "hash_base64_sha512_sha512"
    sent = [
        signed(server, f"{RISC}verification", {"subject": None, "state": "asked for on Monday"}),
        signed(server, f"{OAUTH}token-revoked", {"subject": by_hash}),
    ]
    assert [(await send(server, token)).status for token in sent] == [202, 202]
    lines = [(line["kind"], line.get("detail"), line["outcome"]) for line in log.events("security_event")]
    assert lines == [("verification", "asked for on Monday", "no_account"), ("token-revoked", None, "no_account")]
    assert not log.holds("c2VjcmV0LWhhc2g=")


@pytest.mark.parametrize(
    "change_of",
    [
        pytest.param({"subject_type": "id_token_claims", "email": "ada@example.org"}, id="claims of an id_token"),
        pytest.param({"subject_type": "id-token-claims", "iss": None}, id="without issuer"),
        pytest.param({"subject_type": "iss_sub"}, id="underscore"),
    ],
)
async def test_every_form_of_a_subject_is_understood(server: Server, change_of: dict[str, Any]) -> None:
    """Google's guide names `iss-sub` and `id_token_claims`; RISC writes the latter with hyphens."""
    tokens = (await server.sign_in()).json
    about = given(subject(server) | change_of)
    assert (await send(server, signed(server, told={"subject": about}))).status == 202
    assert not await stands(server, tokens)


async def test_a_repeated_event_is_carried_out_once(server: Server, log: Log) -> None:
    """Google may send an event several times, and at the same moment: it is recorded once."""
    tokens = (await server.sign_in()).json
    token = signed(server, f"{RISC}account-enabled")
    answers = await asyncio.gather(*(send(server, token) for _ in range(5)))
    assert {answer.status for answer in answers} == {202}
    told = [event for event in await recorded(server, tokens["user_id"]) if event.event == "security_event"]
    assert len(told) == 1
    outcomes = sorted(line["outcome"] for line in log.events("security_event"))
    assert outcomes == ["recorded"] + ["repeated"] * 4


async def test_a_replay_spares_a_session_of_the_same_second(server: Server) -> None:
    """The same token does nothing a second time, even to a session that its time would allow it to end."""
    token = signed(server, iat=server.runtime.clock() // 1000 + 60)
    assert (await send(server, token)).status == 202
    tokens = (await server.sign_in()).json
    assert (await send(server, token)).status == 202
    assert await stands(server, tokens)


async def test_a_late_event_leaves_newer_sessions_alone(server: Server) -> None:
    """An event that was issued before the person signed in again must not end the newer session."""
    old, new = [(await server.sign_in()).json for _ in range(2)]
    await change(server, old["refresh_token"], created_at=server.runtime.clock() - 2 * DAY_MS)
    await age(server, old["user_id"])
    yesterday = (server.runtime.clock() - DAY_MS) // 1000
    assert (await send(server, signed(server, iat=yesterday))).status == 202
    assert await stands(server, new)
    assert not await stands(server, old)


async def age(server: Server, user_id: str) -> None:
    """Make the account three days old."""
    created_at = server.runtime.clock() - 3 * DAY_MS

    def write(db: Any) -> None:
        db.execute_sql(f'UPDATE "user" SET "created_at" = {db.param} WHERE "id" = {db.param}', (created_at, user_id))

    await server.runtime.database.write(write)


async def test_an_event_older_than_the_account_is_about_an_earlier_one(server: Server, log: Log) -> None:
    """The person may have deleted the account, and signed up again."""
    tokens = (await server.sign_in()).json
    assert (await send(server, signed(server, iat=server.runtime.clock() // 1000 - 60))).status == 202
    assert await stands(server, tokens)
    assert [line["outcome"] for line in log.events("security_event")] == ["older"]


async def test_somebody_without_an_account_is_no_error(server: Server, log: Log) -> None:
    """Google knows only who gave the app an email, not whose account is still here."""
    assert (await send(server, signed(server, told={"subject": subject(server, "123456")}))).status == 202
    assert [line["outcome"] for line in log.events("security_event")] == ["no_account"]


async def test_a_deactivated_user_loses_sessions_too(server: Server) -> None:
    """Nothing brings a session back that an event has ended."""
    tokens = (await server.sign_in()).json

    def deactivate(db: Any) -> None:
        users.set_active(db, tokens["user_id"], active=False)

    await server.runtime.database.write(deactivate)
    assert (await send(server, signed(server))).status == 202
    assert (await recorded(server, tokens["user_id"]))[0].event == "sessions_revoked"


@pytest.mark.parametrize("audience", ["app", "list"])
async def test_each_of_our_clients_is_an_audience(server: Server, audience: str) -> None:
    """`aud` is the client id that the person signed in with: the server's, or that of an app. It may be a list."""
    tokens = (await server.sign_in()).json
    google = server.runtime.settings.providers[GOOGLE]
    named = google.client_ids[0] if audience == "app" else ["somebody else", google.client_id]
    assert (await send(server, signed(server, aud=named))).status == 202
    assert not await stands(server, tokens)


async def test_the_issuer_may_be_written_without_its_slash(server: Server) -> None:
    """Google's own examples have both."""
    tokens = (await server.sign_in()).json
    assert (await send(server, signed(server, iss=issuer(server)))).status == 202
    assert not await stands(server, tokens)


@pytest.mark.parametrize("media_type", ["application/jwt", "application/x-www-form-urlencoded", ""])
async def test_the_type_of_the_body_does_not_matter(server: Server, media_type: str) -> None:
    """RFC 8935 demands one of the sender. An event is not lost over it, since its signature proves who sent it."""
    headers = {"Content-Type": media_type}
    answer = await server.ask("POST", "/auth/google/events", data=signed(server), headers=headers)
    assert answer.status == 202


FORGED_CLAIMS = [
    pytest.param({"iss": "https://accounts.google.com.example/"}, "invalid_issuer", id="another issuer"),
    pytest.param({"iss": None}, "invalid_issuer", id="no issuer"),
    pytest.param({"iss": ["x"]}, "invalid_issuer", id="issuer is a list"),
    pytest.param({"aud": "999-somebodyelse.apps.googleusercontent.com"}, "invalid_audience", id="another audience"),
    pytest.param({"aud": None}, "invalid_audience", id="no audience"),
    pytest.param({"aud": []}, "invalid_audience", id="empty audience"),
    pytest.param({"aud": [{}]}, "invalid_audience", id="audience is an object"),
    pytest.param({"iat": None}, "invalid_request", id="no time"),
    pytest.param({"iat": "1508184845"}, "invalid_request", id="time is a text"),
    pytest.param({"iat": True}, "invalid_request", id="time is a boolean"),
    pytest.param({"iat": 1508184845.5}, "invalid_request", id="time is a fraction"),
    pytest.param({"jti": None}, "invalid_request", id="no jti"),
    pytest.param({"jti": ""}, "invalid_request", id="empty jti"),
    pytest.param({"jti": 7}, "invalid_request", id="jti is a number"),
    pytest.param({"jti": "\ud83d"}, "invalid_request", id="jti is half a character"),
    pytest.param({"jti": "x" * 2000}, "invalid_request", id="long jti"),
    pytest.param({"events": None}, "invalid_request", id="no events"),
    pytest.param({"events": {}}, "invalid_request", id="empty events"),
    pytest.param({"events": [REVOKED]}, "invalid_request", id="events is a list"),
    pytest.param({"events": json.dumps({REVOKED: {}})}, "invalid_request", id="events is a text"),
    pytest.param({"events": {REVOKED: "now"}}, "invalid_request", id="event is a text"),
    pytest.param({"events": {REVOKED: {}}}, "invalid_request", id="nobody"),
    pytest.param({"padding": "x" * 20_000}, "invalid_request", id="oversized"),
]


@pytest.mark.parametrize(("members", "err"), FORGED_CLAIMS)
async def test_claims_that_do_not_fit_are_refused(server: Server, members: dict[str, Any], err: str, log: Log) -> None:
    """Even with Google's signature: a token for another service, or one that is no event token, does nothing."""
    tokens = (await server.sign_in()).json
    assert_refused(await send(server, signed(server, **members)), err)
    assert await stands(server, tokens)
    (line,) = log.events("problem")
    assert line["code"] == "event_refused"
    assert err in line["reason"]
    assert not log.holds(str(ADA))


@pytest.mark.parametrize(
    "about",
    [
        None,
        "ada",
        {"subject_type": "email", "email": "ada@example.org"},
        {"subject_type": "id_token_claims", "email": "ada@example.org"},
        {"subject_type": "iss-sub", "iss": "https://idp.example/", "sub": ADA},
        {"subject_type": "iss-sub", "sub": 7},
        {"subject_type": "iss-sub", "sub": "\ud83d"},
        {"subject_type": ["iss-sub"], "sub": ADA},
        {"sub": ADA},
    ],
)
async def test_a_person_who_cannot_be_recognised_is_refused(server: Server, about: Any) -> None:
    """Only Google's own id is a key. An email is none: the address may have a new owner."""
    tokens = (await server.sign_in()).json
    for event_type in (REVOKED, f"{RISC}account-enabled"):
        assert_refused(await send(server, signed(server, event_type, {"subject": about})), "invalid_request")
    assert await stands(server, tokens)


async def test_several_events_in_one_token_are_refused(server: Server) -> None:
    """Google's guide promises one event in a token."""
    tokens = (await server.sign_in()).json
    event = {"subject": subject(server)}
    events = {f"{RISC}account-enabled": event, REVOKED: event}
    assert_refused(await send(server, signed(server, events=events)), "invalid_request")
    assert await stands(server, tokens)


@pytest.mark.parametrize(
    ("members", "err"),
    [
        ({"kid": "0" * 40}, "invalid_key"),
        ({"kid": None}, "invalid_key"),
        ({"kid": ["x"]}, "invalid_key"),
        ({"alg": "RS512"}, "invalid_key"),
        ({"alg": None}, "invalid_key"),
        ({"crit": ["https://extension.invalid/"], "https://extension.invalid/": True}, "invalid_request"),
        ({"b64": False}, "invalid_request"),
        ({"typ": "at+jwt"}, "invalid_request"),
        ({"typ": 7}, "invalid_request"),
        ({"cty": "JWT"}, "invalid_request"),
    ],
)
async def test_a_header_that_does_not_fit_is_refused(server: Server, members: dict[str, Any], err: str) -> None:
    """An unknown key, another algorithm, an extension that we do not know, or a token of another kind."""
    tokens = (await server.sign_in()).json
    token = rs256(header(server, **members), claims(server), google_key(server))
    assert_refused(await send(server, token), err)
    assert await stands(server, tokens)


@pytest.mark.parametrize("typ", ["JWT", "application/secevent+jwt", None])
async def test_the_type_of_the_token_may_be_left_out(server: Server, typ: str | None) -> None:
    """RFC 8417, 2.3 recommends a type."""
    token = rs256(header(server, typ=typ), claims(server), google_key(server))
    assert (await send(server, token)).status == 202


async def test_a_signature_that_is_not_googles_is_refused(server: Server) -> None:
    """Another key, no signature, an HMAC with Google's public key (RFC 8725, 2.1), and changed claims."""
    tokens = (await server.sign_in()).json
    right, said = header(server), claims(server)
    public = google_key(server).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    genuine = rs256(right, claims(server, told={"subject": subject(server, "7")}), google_key(server)).split(".")
    forged = [
        (rs256(right, said, generate_private_key(65537, 2048)), "authentication_failed"),
        (unsigned(right, said), "authentication_failed"),
        (".".join([genuine[0], segment(said), genuine[2]]), "authentication_failed"),
        (unsigned(right | {"alg": "none"}, said), "invalid_key"),
        (hs256(right | {"alg": "HS256"}, said, public), "invalid_key"),
        (hs256(right, said, public), "authentication_failed"),
    ]
    for token, err in forged:
        assert_refused(await send(server, token), err)
    assert await stands(server, tokens)


async def test_an_id_token_is_no_event_token(server: Server) -> None:
    """Google signs both with the same keys for the same audience. An app could present a person's id_token here."""
    said = claims(server, events=None, sub=ADA, exp=server.runtime.clock() // 1000 + 3600, nonce="n")
    token = rs256(header(server, typ="JWT"), said, google_key(server))
    assert_refused(await send(server, token), "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"a.b.c", b"a.b", b"\xff", b"{}", b"null", b"." * 3000, b'{"payload": "a.b.c"}',
        segment(b"[" * 6000).encode() + b".e30.AA", b"e30." + segment(b'{"a":' * 2000).encode() + b".AA",
    ],
)  # fmt: skip
async def test_what_is_no_token_is_refused(server: Server, body: bytes) -> None:
    """RFC 8935, 2.4: a body that is no security event token is invalid_request."""
    assert_refused(await send(server, body), "invalid_request")


async def test_a_duplicate_member_is_refused(server: Server) -> None:
    """Two readers could read two different events from one token (RFC 7519, 4)."""
    text = json.dumps(claims(server))
    twice = f'{{"iss":"{issuer(server)}",{text[1:]}'.encode()
    assert_refused(await send(server, rs256(header(server), twice, google_key(server))), "invalid_request")


async def test_a_nested_token_is_refused(server: Server) -> None:
    """A token whose claims are another token (RFC 7519, 5.2)."""
    token = rs256(header(server), signed(server).encode(), google_key(server))
    assert_refused(await send(server, token), "invalid_request")


async def test_a_body_that_is_too_large_is_not_read(server: Server) -> None:
    """More than 64 KiB is no token of anybody."""
    answer = await send(server, b"x" * 70_000)
    assert (answer.status, answer.code) == (413, "payload_too_large")


@pytest.mark.parametrize(
    "configuration",
    [
        pytest.param(None, id="out of reach"),
        pytest.param({}, id="empty"),
        pytest.param({"issuer": "https://accounts.google.com/"}, id="no keys"),
        pytest.param({"issuer": "https://a.example/", "jwks_uri": "http://a.example/certs"}, id="keys on plain http"),
        pytest.param({"issuer": "https://a.example/", "jwks_uri": "http://127.0.0.1:1/"}, id="keys out of reach"),
        pytest.param({"issuer": 7, "jwks_uri": "http://127.0.0.1:1/"}, id="no issuer"),
    ],
)
async def test_an_event_is_not_lost_while_googles_keys_are(tmp_path: Path, configuration: Any, log: Log) -> None:
    """503 asks Google to send the event again later. The log says what failed."""
    listener, stand_in = free_listener(), web.Application()

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(configuration)

    stand_in.router.add_get("/risc", answer)
    runner = web.AppRunner(stand_in)
    await runner.setup()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/risc"
    if configuration is None:
        listener.close()
    else:
        await web.SockSite(runner, listener).start()
    try:
        async with running(tmp_path, GOOGLE_RISC_CONFIGURATION_URI=url) as server:
            tokens = (await server.sign_in()).json
            refused = await send(server, signed(server))
            assert (refused.status, refused.code) == (503, "provider_unavailable")
            assert int(refused.headers["Retry-After"]) > 0
            assert await stands(server, tokens)
            assert log.events("jwks_fetch_failed")
    finally:
        await runner.cleanup()


async def test_a_new_key_is_asked_for_again_before_its_event_is_refused(server: Server) -> None:
    """A stranger can use up the one fetch in a minute for an unknown key. An event with a really new key is then asked
    for again with 503, and not refused."""
    unknown = rs256(header(server, kid="0" * 40), claims(server), google_key(server))
    assert_refused(await send(server, unknown), "invalid_key")
    new = rs256(header(server, kid="1" * 40), claims(server), google_key(server))
    answer = await send(server, new)
    assert (answer.status, answer.code) == (503, "provider_unavailable")
    assert answer.headers["Retry-After"] == "60"


async def test_another_provider_has_no_such_route(server: Server) -> None:
    """Facebook sends signed requests in place of events."""
    for name in ("facebook", "nobody"):
        assert (await server.ask("POST", f"/auth/{name}/events", data=signed(server))).status == 404


async def test_events_need_the_provider(tmp_path: Path) -> None:
    """A server without Google has nobody whose events it could believe."""
    off = dict.fromkeys(("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET", "GOOGLE_REDIRECT_URI"), "")
    async with running(tmp_path, with_sandbox=False, **off) as server:
        answer = await send(server, b"a.b.c")
        assert (answer.status, answer.code) == (404, "provider_not_configured")


async def test_refused_events_are_limited_and_genuine_ones_are_not(tmp_path: Path) -> None:
    """Forgeries count against their address. Google sends the events of all people from few addresses."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true", RATE_LIMIT_FINISH="3") as server:
        statuses = [(await send(server, b"forged")).status for _ in range(4)]
        assert statuses == [400, 400, 400, 429]
        for _ in range(5):
            assert (await send(server, signed(server))).status == 202


async def test_events_with_unknown_keys_are_limited_too(tmp_path: Path) -> None:
    """The first costs a fetch of the keys. The next ones would be asked for again without end, and a stranger's 503s
    would wake the operator: the alert on server errors counts them."""
    async with running(tmp_path, RATE_LIMIT_ENABLED="true", RATE_LIMIT_FINISH="3") as server:
        token = rs256(header(server, kid="0" * 40), claims(server), google_key(server))
        assert [(await send(server, token)).status for _ in range(5)] == [400, 503, 503, 429, 429]
        assert (await send(server, signed(server))).status == 202


async def test_events_are_counted(server: Server) -> None:
    """By kind and outcome. A type that Google made up since is one kind, however it is called."""
    await send(server, signed(server, f"urn:{secrets.token_hex(8)}"))
    text = (await server.get("/metrics")).text
    counted = 'nextarget_security_events_total{kind="unknown",outcome="no_account",provider="google"}'
    assert counted in text
