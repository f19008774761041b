"""Facebook's SDK inside an app: how Limited Login's id_tokens and classic access tokens are verified."""

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from typing import Any
from unittest.mock import sentinel
from urllib.parse import quote

import aiohttp
import pytest
from aioresponses import CallbackResult
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from nextarget.errors import IdentityRejected, ProviderFailed, ProviderUnavailable
from nextarget.model import Identity, Millis
from nextarget.model import Provider as Name
from nextarget.providers.base import NativeIdentity, SubjectTokenType
from nextarget.providers.facebook import Facebook
from nextarget.providers.facebook_graph import REMEMBER_SECONDS, RETRY_SECONDS, TokenDebugger
from nextarget.providers.http.client import ProviderHttp
from tests.providers.conftest import FACEBOOK as CONFIG
from tests.providers.conftest import Clock, Provider, Response
from tests.tokens.forging import contains_part_of, rs256

TOKEN = "EAAGm0PX4ZCpsBAOZCZB-token-of-a-person"
JWKS = "https://limited.facebook.example/.well-known/oauth/openid/jwks/"
GRAPH = "https://graph.facebook.example/v26.0"
DEBUG = f"{GRAPH}/debug_token?input_token={TOKEN}"
PROOF = hmac.new(CONFIG.client_secret.encode(), TOKEN.encode(), hashlib.sha256).hexdigest()
ME = f"{GRAPH}/me?fields=id,email&appsecret_proof={PROOF}"
SECONDS = 1_900_000_000
NOW = Millis(SECONDS * 1000)
SUBJECT = "10224601733318501"
NONCE = "a-nonce-that-we-issued-to-the-app"
ADA = Identity(Name("facebook"), SUBJECT, "ada@lovelace.example", email_verified=False)
GOOD: dict[str, Any] = {
    "app_id": CONFIG.client_id,
    "type": "USER",
    "application": "NexTarget",
    "expires_at": SECONDS + 3600,
    "is_valid": True,
    "scopes": ["email", "public_profile"],
    "user_id": SUBJECT,
}
MISSING = sentinel.missing
Signed = Callable[..., str]


@pytest.fixture
def facebook(http: aiohttp.ClientSession) -> Facebook:
    return Facebook(CONFIG, ProviderHttp(http, Name("facebook")))


async def classic(facebook: Facebook, token: str = TOKEN, *, raw_nonce: str | None = None) -> NativeIdentity:
    return await facebook.identify_native(token, SubjectTokenType.ACCESS_TOKEN, raw_nonce=raw_nonce, now=NOW)


async def limited(facebook: Facebook, token: str, *, raw_nonce: str | None = None) -> NativeIdentity:
    return await facebook.identify_native(token, SubjectTokenType.ID_TOKEN, raw_nonce=raw_nonce, now=NOW)


def debugged(**changed: Any) -> dict[str, Any]:
    """The answer of debug_token about a token, with some facts changed."""
    return {"data": {name: value for name, value in (GOOD | changed).items() if value is not MISSING}}


async def rejected(asking: Any, *hidden: str) -> str:
    """The reason of a rejection. It is for the app, and quotes no secret."""
    with pytest.raises(IdentityRejected) as caught:
        await asking
    for text in (TOKEN, PROOF, CONFIG.client_secret.reveal(), *hidden):
        assert not contains_part_of(caught.value.reason, text)
    return caught.value.reason


async def test_a_classic_token_says_who_is_signed_in(facebook: Facebook, provider: Provider) -> None:
    """Facebook confirms that the token was made for our app, then names its person. The token has no nonce."""
    provider.answers("GET", DEBUG, debugged())
    provider.answers("GET", ME, {"id": SUBJECT, "email": ADA.email, "verified": True})
    assert await classic(facebook, raw_nonce="of no consequence") == NativeIdentity(ADA, nonce=None)


async def test_the_secret_and_the_proof_travel_in_headers_and_as_a_hash(facebook: Facebook, provider: Provider) -> None:
    """The debug_token request has the app's token in a header. The profile request has the person's token, and the
    app's proof."""
    provider.answers("GET", DEBUG, debugged())
    provider.answers("GET", ME, {"id": SUBJECT})
    await classic(facebook)
    debug, me = provider.asked
    assert debug.headers["Authorization"] == f"Bearer {CONFIG.client_id}|{CONFIG.client_secret.reveal()}"
    assert debug.params == {"input_token": TOKEN}  # Facebook documents no other way to ask
    assert me.headers["Authorization"] == f"Bearer {TOKEN}"
    assert me.params == {"fields": "id,email", "appsecret_proof": PROOF}
    assert not any(CONFIG.client_secret.reveal() in f"{asked.url} {asked.params}" for asked in provider.asked)


@pytest.mark.parametrize("number", [int, str])
@pytest.mark.parametrize("expires_at", [SECONDS + 1, 0])
async def test_what_facebook_writes_in_two_ways_is_read_in_both(
    facebook: Facebook, provider: Provider, number: type[int] | type[str], expires_at: int
) -> None:
    """Ids and times may be texts or numbers. An expiry of 0 means that the token does not expire."""
    said = debugged(
        app_id=number(CONFIG.client_id),
        user_id=number(SUBJECT),
        expires_at=number(expires_at),
        issued_at=number(SECONDS),
    )
    provider.answers("GET", DEBUG, said)
    provider.answers("GET", ME, {"id": number(SUBJECT)})
    found = await classic(facebook)
    assert (found.identity.subject, found.issued_at) == (SUBJECT, Millis(SECONDS * 1000 + 999))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        *[({"app_id": value}, "another app") for value in ("999", "", None, MISSING, [CONFIG.client_id], 1.5)],
        *[({"is_valid": value}, "not valid") for value in (False, None, MISSING, "true", 1)],
        *[({"type": value}, "not valid") for value in ("PAGE", "APP", "user", None, MISSING)],
        *[({"user_id": value}, "not valid") for value in (None, MISSING, "", "me", True, -1, 1.0, [SUBJECT])],
        *[
            ({"expires_at": value}, "expired")
            for value in (SECONDS, str(SECONDS), -1, "-1", "", "soon", None, MISSING, True, False, SECONDS + 0.5)
        ],
    ],
    ids=lambda value: "missing" if value is MISSING else repr(value),
)
async def test_a_token_that_was_not_made_for_us_to_use_is_rejected(
    facebook: Facebook, provider: Provider, changed: dict[str, Any], why: str
) -> None:
    """The worst case is a token of another app, which would sign its person in here (RFC 9700, 4.9). No profile is
    requested with such a token."""
    provider.answers("GET", DEBUG, debugged(**changed))
    assert why in await rejected(classic(facebook))
    assert [asked.params for asked in provider.asked] == [{"input_token": TOKEN}]


async def test_a_token_of_two_people_is_rejected(facebook: Facebook, provider: Provider) -> None:
    """Both answers must name the same person."""
    provider.answers("GET", DEBUG, debugged(user_id="10158844207715503"))
    provider.answers("GET", ME, {"id": SUBJECT})
    assert "two people" in await rejected(classic(facebook))


@pytest.mark.parametrize("token", ["", "two words", "t\r\nX-Header: 1", "tok\u00e9n", "\x00", "x" * 4097], ids=repr)
async def test_text_that_cannot_be_a_token_is_rejected_without_asking(
    facebook: Facebook, provider: Provider, token: str
) -> None:
    """Anyone can send any text here, so impossible tokens cause no request."""
    assert "malformed" in await rejected(classic(facebook, token))
    assert provider.asked == []


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"data": None},
        {"data": []},
        {"data": "text"},
        *[{"error": {"code": code}} for code in (10, 101, True, "190")],
    ],
)
@pytest.mark.parametrize("status", [200, 400])
async def test_an_answer_without_facts_failed(
    facebook: Facebook, provider: Provider, payload: dict[str, Any], status: int
) -> None:
    """An error about our own app is not the person's fault either."""
    provider.answers("GET", DEBUG, payload, status=status)
    with pytest.raises(ProviderFailed) as caught:
        await classic(facebook)
    assert not isinstance(caught.value, IdentityRejected)
    assert str(caught.value.note).startswith("facebook debug_token: status ")


OWN = f"{CONFIG.client_id}|{CONFIG.client_secret.reveal()}"
ABOUT_US = f"{GRAPH}/debug_token?input_token={quote(OWN, safe='')}"
GOOD_APP = {"data": {"app_id": CONFIG.client_id, "type": "APP", "is_valid": True, "scopes": []}}


def refuses(provider: Provider, code: int, *, repeat: bool = False) -> None:
    """Make debug_token answer 400 with an error when it is asked about the app's token."""
    payload = {"error": {"message": "refused", "type": "OAuthException", "code": code}}
    provider.answers("GET", DEBUG, payload, status=400, repeat=repeat)


@pytest.mark.parametrize(("code", "why"), [(100, "another app"), (190, "not valid"), (102, "not valid")])
async def test_a_token_that_facebook_refuses_is_the_tokens_fault_while_ours_is_good(
    facebook: Facebook, provider: Provider, code: int, why: str
) -> None:
    """Facebook answers 400 for another app's token, for text that is not a token, and for our wrong secret."""
    refuses(provider, code)
    provider.answers("GET", ABOUT_US, GOOD_APP)
    assert why in await rejected(classic(facebook))


@pytest.mark.parametrize("code", [100, 190])
@pytest.mark.parametrize(
    "said",
    [
        {"status": 400, "payload": {"error": {"code": 190}}},
        {"status": 400, "payload": {"error": {"code": 100}}},
        {"payload": {"data": {"is_valid": False}}},
        {"payload": {"data": {"is_valid": True, "app_id": "999"}}},
        {"payload": {}},
    ],
    ids=repr,
)
async def test_a_token_that_facebook_refuses_is_our_fault_while_it_refuses_ours_too(
    facebook: Facebook, provider: Provider, code: int, said: dict[str, Any]
) -> None:
    """The app does not learn that it needs a new token, and the log names the settings."""
    refuses(provider, code)
    provider.answers("GET", ABOUT_US, **said)
    with pytest.raises(ProviderFailed) as caught:
        await classic(facebook)
    assert type(caught.value) is ProviderFailed
    assert "FACEBOOK_CLIENT_SECRET" in str(caught.value.note)
    assert not contains_part_of(str(caught.value.note), CONFIG.client_secret.reveal())


async def test_nobody_is_at_fault_while_facebook_cannot_say(
    http: aiohttp.ClientSession, provider: Provider, clock: Clock
) -> None:
    """If Facebook cannot say whose fault it is, the question is repeated only after a few seconds. Else calls would
    wait one after another, and longer with every invented token of a stranger."""
    debugger = debugger_at(http, clock)
    refuses(provider, 190, repeat=True)
    provider.answers("GET", ABOUT_US, {"error": {"code": 4}}, status=400)
    found = await asyncio.gather(*(debugger.facts(TOKEN) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in found] == [ProviderUnavailable] * 3
    assert questions_about_us(provider) == 1
    clock.seconds += RETRY_SECONDS
    provider.answers("GET", ABOUT_US, GOOD_APP)
    with pytest.raises(IdentityRejected):
        await debugger.facts(TOKEN)
    assert questions_about_us(provider) == 2


async def test_only_so_many_wait_for_what_facebook_says_of_us(
    http: aiohttp.ClientSession, provider: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Facebook hangs, only a limited number of calls wait for the question about our own token."""
    monkeypatch.setattr("nextarget.providers.facebook_graph.MAX_ASKING", 2)
    over = asyncio.Event()

    async def hang(_url: object, **_options: object) -> CallbackResult:
        await over.wait()
        return CallbackResult(payload=GOOD_APP, response_class=Response)

    debugger = debugger_at(http, clock)
    refuses(provider, 190, repeat=True)
    provider.answers("GET", ABOUT_US, callback=hang)
    waiting = {asyncio.create_task(debugger.facts(TOKEN)) for _ in range(5)}
    refused: set[asyncio.Task[Any]] = set()
    while len(refused) < 3:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        refused |= done
    assert [type(task.exception()) for task in refused] == [ProviderUnavailable] * 3
    over.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in found] == [IdentityRejected] * 2


def debugger_at(http: aiohttp.ClientSession, clock: Clock) -> TokenDebugger:
    return TokenDebugger(
        ProviderHttp(http, Name("facebook")),
        f"{GRAPH}/debug_token",
        CONFIG.client_id,
        CONFIG.client_secret,
        clock=clock,
    )


def questions_about_us(provider: Provider) -> int:
    return sum(asked.params == {"input_token": OWN} for asked in provider.asked)


async def test_our_own_token_is_asked_about_once_in_a_while(
    http: aiohttp.ClientSession, provider: Provider, clock: Clock
) -> None:
    """Invented tokens of a stranger do not cause a second question for every token. A changed secret is noticed
    later."""
    debugger = debugger_at(http, clock)
    refuses(provider, 190, repeat=True)
    provider.answers("GET", ABOUT_US, GOOD_APP)

    for _ in range(3):
        found = await asyncio.gather(*(debugger.facts(TOKEN) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in found] == [IdentityRejected] * 3
    assert questions_about_us(provider) == 1
    clock.seconds += REMEMBER_SECONDS
    provider.answers("GET", ABOUT_US, {"error": {"code": 190}}, status=400)
    for _ in range(2):
        with pytest.raises(ProviderFailed):
            await debugger.facts(TOKEN)
    assert questions_about_us(provider) == 2


@pytest.mark.parametrize("code", [102, 190])
async def test_a_token_that_ends_between_the_two_questions_is_the_tokens_fault(
    facebook: Facebook, provider: Provider, code: int
) -> None:
    """Meta's page on errors says to get a new access token; this is the app's task."""
    provider.answers("GET", DEBUG, debugged())
    provider.answers("GET", ME, {"error": {"code": code, "error_subcode": 460}}, status=400)
    assert "not valid" in await rejected(classic(facebook))


async def test_good_facts_with_a_bad_status_are_not_believed(facebook: Facebook, provider: Provider) -> None:
    """Only an answer with status 200 counts."""
    provider.answers("GET", DEBUG, debugged(), status=400)
    with pytest.raises(ProviderFailed):
        await classic(facebook)


@pytest.mark.parametrize("where", ["debug_token", "me"])
@pytest.mark.parametrize("answer", [{"status": 500}, {"status": 400, "payload": {"error": {"code": 4}}}], ids=repr)
async def test_facebook_being_down_means_later(
    facebook: Facebook, provider: Provider, where: str, answer: dict[str, Any]
) -> None:
    """This holds for both requests."""
    if where == "me":
        provider.answers("GET", DEBUG, debugged())
    provider.answers("GET", DEBUG if where == "debug_token" else ME, **answer)
    with pytest.raises(ProviderUnavailable) as caught:
        await classic(facebook)
    assert not contains_part_of(str(caught.value.note), TOKEN)


async def test_what_facebook_quotes_of_a_token_is_not_repeated(facebook: Facebook, provider: Provider) -> None:
    """A note has neither the token nor our own app token."""
    app_token = f"{CONFIG.client_id}|{CONFIG.client_secret.reveal()}"
    message = f"Cannot parse access token {TOKEN} with {app_token} of ada@lovelace.example"
    provider.answers("GET", DEBUG, {"error": {"message": message, "code": 190}}, status=400)
    provider.answers("GET", ABOUT_US, {"error": {"message": message, "code": 190}}, status=400)
    with pytest.raises(ProviderFailed) as caught:
        await classic(facebook)
    for text in (TOKEN, CONFIG.client_secret.reveal(), "ada@lovelace.example"):
        assert not contains_part_of(str(caught.value.note), text)


@pytest.fixture
def signed(signing_key: RSAPrivateKey, provider: Provider, jwks_of: Callable[..., Any]) -> Signed:
    """An id_token of Limited Login, with some claims changed. Facebook publishes its key once."""
    provider.answers("GET", JWKS, jwks_of("key-1"))

    def signed(key: RSAPrivateKey = signing_key, kid: str = "key-1", **changed: object) -> str:
        claims: dict[str, object] = {
            "iss": "https://www.facebook.com",
            "aud": CONFIG.client_id,
            "sub": SUBJECT,
            "email": ADA.email,
            "name": "Ada Lovelace",
            "nonce": NONCE,
            "iat": SECONDS,
            "exp": SECONDS + 3600,
        }
        kept = {name: value for name, value in (claims | changed).items() if value is not MISSING}
        return rs256({"alg": "RS256", "kid": kid, "typ": "JWT"}, kept, key)

    return signed


async def test_an_id_token_of_limited_login_says_who_is_signed_in(
    facebook: Facebook, provider: Provider, signed: Signed
) -> None:
    """Only the public keys are requested: the Graph API does not know such tokens."""
    assert await limited(facebook, signed()) == NativeIdentity(ADA, NONCE)
    assert [asked.url for asked in provider.asked] == [JWKS]


async def test_a_sub_that_is_a_number_is_the_same_person(facebook: Facebook, signed: Signed) -> None:
    """The `sub` may be a number, as the ids of the Graph API."""
    assert (await limited(facebook, signed(sub=int(SUBJECT)))).identity == ADA


@pytest.mark.parametrize("said", [True, "true", False, MISSING])
async def test_an_email_of_limited_login_never_counts_as_verified(
    facebook: Facebook, signed: Signed, said: object
) -> None:
    """Facebook does not say whether it checked the email, whatever a token claims."""
    assert (await limited(facebook, signed(email_verified=said))).identity == ADA


@pytest.mark.parametrize("raw", [None, NONCE])
async def test_a_nonce_that_the_sdk_hashed_needs_the_raw_one(
    facebook: Facebook, signed: Signed, raw: str | None
) -> None:
    """Without the raw nonce the hash is taken as the nonce, and we never issued it."""
    hashed = hashlib.sha256(NONCE.encode()).hexdigest()
    found = await limited(facebook, signed(nonce=hashed), raw_nonce=raw)
    assert found.nonce == (raw or hashed)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"aud": "999"}, "aud"),
        ({"aud": [CONFIG.client_id]}, "aud"),
        ({"aud": int(CONFIG.client_id)}, "aud"),
        ({"azp": "999"}, "azp"),
        ({"iss": "https://facebook.com"}, "issuer"),
        ({"iss": "https://www.facebook.com/"}, "issuer"),
        ({"iss": "https://limited.facebook.com"}, "issuer"),
        ({"iat": SECONDS - 7200, "exp": SECONDS - 3600}, "expired"),
        ({"iat": SECONDS + 60}, "future"),
        ({"nonce": MISSING}, "nonce"),
        ({"nonce": ""}, "nonce"),
        ({"sub": MISSING}, "sub"),
        ({"sub": float(SUBJECT)}, "sub"),
        ({"sub": True}, "sub"),
        ({"events": {}}, "security event"),
    ],
    ids=repr,
)
async def test_an_id_token_that_breaks_a_rule_is_rejected_and_the_rule_named(
    facebook: Facebook, signed: Signed, changed: dict[str, object], why: str
) -> None:
    """Every rule for id_tokens holds here too."""
    token = signed(**changed)
    assert why in await rejected(limited(facebook, token), token, str(ADA.email))


async def test_an_id_token_that_facebook_did_not_sign_is_rejected(facebook: Facebook, signed: Signed) -> None:
    """Another key, an unpublished kid, an access token, and a token that is too long are rejected."""
    await rejected(limited(facebook, signed(key=generate_private_key(65537, 2048))))
    await rejected(limited(facebook, signed(kid="key-2")))
    await rejected(limited(facebook, TOKEN))
    await rejected(limited(facebook, "x" * 20_000))


async def test_an_id_token_is_no_access_token(facebook: Facebook, provider: Provider, signed: Signed) -> None:
    """If an app presents an id_token as an access token, Facebook's answer decides, and it says that the token is
    not valid."""
    token = signed()
    provider.answers("GET", f"{GRAPH}/debug_token?input_token={token}", {"data": {"is_valid": False}})
    assert "not valid" in await rejected(classic(facebook, token))
