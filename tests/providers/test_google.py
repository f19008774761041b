"""Google: the requests that we send, and the result of every answer."""

import base64
import hashlib
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from nextarget.errors import (
    IdentityRejected,
    ProblemError,
    ProviderFailed,
    ProviderRefused,
    ProviderUnavailable,
)
from nextarget.model import Identity, Millis, Secret
from nextarget.model import Provider as Name
from nextarget.providers.google import Google
from nextarget.providers.http.client import ProviderHttp
from nextarget.tokens.keyring import SigningKey
from nextarget.tokens.login import LoginSecrets, login_secrets
from tests.providers.conftest import GOOGLE as CONFIG
from tests.providers.conftest import Provider
from tests.tokens.forging import contains_part_of, rs256

TOKEN = "https://oauth2.google.example/token"
JWKS = "https://www.google.example/oauth2/v3/certs"
CODE = "4/0AX4XfWhmSXpSZ2nHUOIu9gN0-code"
SECONDS = 1_900_000_000
NOW = Millis(SECONDS * 1000)
Signed = Callable[..., str]
Answering = Callable[[str], Provider]


@pytest.fixture
def google(http: aiohttp.ClientSession) -> Google:
    return Google(CONFIG, ProviderHttp(http, Name("google")))


@pytest.fixture
def signed(signing_key: RSAPrivateKey, secrets: LoginSecrets) -> Signed:
    """An id_token as Google would sign it, with some claims changed."""

    def signed(kid: str = "key-1", **changed: object) -> str:
        claims: dict[str, object] = {
            "iss": CONFIG.issuer,
            "aud": CONFIG.client_id,
            "azp": CONFIG.client_id,
            "sub": "108204268033311374501",
            "email": "ada@lovelace.example",
            "email_verified": True,
            "nonce": secrets.nonce,
            "iat": SECONDS,
            "exp": SECONDS + 3600,
        }
        return rs256({"alg": "RS256", "kid": kid, "typ": "JWT"}, claims | changed, signing_key)

    return signed


@pytest.fixture
def answering(provider: Provider, jwks_of: Callable[..., Any]) -> Answering:
    """Google answers with this id_token, and publishes its key once."""

    def answering(token: str) -> Provider:
        provider.answers("POST", TOKEN, {"id_token": token, "access_token": "not used"}, repeat=True)
        provider.answers("GET", JWKS, jwks_of("key-1"))
        return provider

    return answering


async def failure(google: Google, secrets: LoginSecrets, *hidden: str) -> ProblemError:
    """The error of a sign-in. Its sentence is our own, and its note has no secret."""
    with pytest.raises(ProblemError) as caught:
        await google.identify(CODE, secrets, NOW)
    error = caught.value
    assert error.detail == type(error).sentence
    assert error.note
    for text in (CODE, CONFIG.client_secret.reveal(), secrets.nonce, secrets.code_verifier, *hidden):
        assert not contains_part_of(error.note, text)
    return error


def test_the_person_is_sent_with_nonce_and_challenge(google: Google, secrets: LoginSecrets) -> None:
    """The request has the nonce and the S256 challenge, and no secret (OpenID Connect Core, 3.1.2.1; RFC 7636, 4.3)."""
    url = urlsplit(google.authorization_url(secrets, ask_person=False))
    assert f"{url.scheme}://{url.netloc}{url.path}" == CONFIG.authorization_endpoint
    hashed = hashlib.sha256(secrets.code_verifier.encode()).digest()
    assert parse_qs(url.query) == {
        "client_id": [CONFIG.client_id],
        "redirect_uri": [CONFIG.redirect_uri],
        "response_type": ["code"],
        "scope": ["openid email"],
        "state": [secrets.state],
        "nonce": [secrets.nonce],
        "code_challenge": [base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()],
        "code_challenge_method": ["S256"],
    }
    assert CONFIG.client_secret.reveal() not in url.query
    assert secrets.code_verifier not in url.query


def test_the_person_is_asked_where_the_redirect_might_be_anybodys(google: Google, secrets: LoginSecrets) -> None:
    """Google shows its account chooser, also to a person who is signed in there (RFC 8252, 8.6). Nothing else
    changes."""
    assert google.asks_person
    asking, silent = (
        parse_qs(urlsplit(google.authorization_url(secrets, ask_person=ask)).query) for ask in (True, False)
    )
    assert asking == silent | {"prompt": ["select_account"]}


async def test_a_code_becomes_an_identity(
    google: Google, secrets: LoginSecrets, signed: Signed, answering: Answering
) -> None:
    """The code is redeemed once with secret and verifier, the keys are fetched, and the token names the person."""
    provider = answering(signed())
    found = await google.identify(CODE, secrets, NOW)
    assert found == Identity(Name("google"), "108204268033311374501", "ada@lovelace.example", email_verified=True)
    token_request, keys_request = provider.asked
    assert token_request.form == {
        "grant_type": "authorization_code",
        "code": CODE,
        "client_id": CONFIG.client_id,
        "client_secret": CONFIG.client_secret.reveal(),
        "redirect_uri": CONFIG.redirect_uri,
        "code_verifier": secrets.code_verifier,
    }
    assert (token_request.method, token_request.url, keys_request.url) == ("POST", TOKEN, JWKS)


async def test_no_secret_is_ever_part_of_a_url(
    google: Google, secrets: LoginSecrets, signed: Signed, answering: Answering
) -> None:
    """URLs end up in logs: code, secret, verifier and token are only in the body, and only at the token endpoint."""
    token = signed()
    provider = answering(token)
    await google.identify(CODE, secrets, NOW)
    for asked in provider.asked:
        beside_the_body = f"{asked.url} {asked.params} {asked.headers}"
        for text in (CODE, CONFIG.client_secret.reveal(), secrets.code_verifier, secrets.nonce, secrets.state, token):
            assert text not in beside_the_body
        assert asked.url == TOKEN or not asked.form


async def test_the_keys_are_fetched_once_for_many_sign_ins(
    google: Google, secrets: LoginSecrets, signed: Signed, answering: Answering
) -> None:
    """A sign-in costs one request to Google, not two."""
    provider = answering(signed())
    for _ in range(3):
        assert await google.identify(CODE, secrets, NOW)
    assert [asked.url for asked in provider.asked].count(JWKS) == 1


@pytest.mark.parametrize(
    "token",
    [None, "", 1, True, ["token"], {"id_token": "token"}, "x" * 16_385],
    ids=["missing", "empty", "number", "boolean", "list", "object", "huge"],
)
async def test_an_answer_without_an_id_token_failed(
    google: Google, provider: Provider, secrets: LoginSecrets, token: object
) -> None:
    """A 200 without a usable id_token is not the protocol."""
    provider.answers(
        "POST", TOKEN, {"access_token": "ya29.something"} | ({"id_token": token} if token is not None else {})
    )
    assert type(await failure(google, secrets)) is ProviderFailed


@pytest.mark.parametrize("status", [400, 401])
async def test_a_code_that_google_no_longer_takes_is_refused(
    google: Google, provider: Provider, secrets: LoginSecrets, status: int
) -> None:
    """invalid_grant is about the code: the person has to sign in again."""
    provider.answers("POST", TOKEN, {"error": "invalid_grant", "error_description": "Bad Request"}, status=status)
    error = await failure(google, secrets)
    assert type(error) is ProviderRefused
    assert error.note == f"google token: status {status}, invalid_grant: Bad Request"


@pytest.mark.parametrize("code", ["invalid_client", "unauthorized_client", "redirect_uri_mismatch", "invalid_request"])
async def test_an_error_about_ourselves_is_not_the_persons_fault(
    google: Google, provider: Provider, secrets: LoginSecrets, code: str
) -> None:
    """Any other error is about our configuration, and the log names it for the operator."""
    provider.answers("POST", TOKEN, {"error": code}, status=401)
    error = await failure(google, secrets)
    assert type(error) is ProviderFailed
    assert code in str(error.note)


@pytest.mark.parametrize("answer", [{}, {"error": None}, {"error": ["invalid_grant"]}, {"error": {"code": 400}}])
async def test_an_error_in_no_known_form_failed(
    google: Google, provider: Provider, secrets: LoginSecrets, answer: dict[str, object]
) -> None:
    """An error that is not the error of RFC 6749, 5.2 does not count as a refusal."""
    provider.answers("POST", TOKEN, answer, status=400)
    assert type(await failure(google, secrets)) is ProviderFailed


@pytest.mark.parametrize("error", ["invalid_grant", "invalid_client"])
async def test_what_google_quotes_is_not_repeated(
    google: Google, provider: Provider, secrets: LoginSecrets, error: str
) -> None:
    """An error text that quotes the code, the secret or an email reaches neither the caller nor the log."""
    quoted = f"Bad code {CODE} of ada@lovelace.example, secret {CONFIG.client_secret.reveal()}"
    provider.answers("POST", TOKEN, {"error": error, "error_description": quoted}, status=400)
    found = await failure(google, secrets, "ada@lovelace.example", "lovelace.example")
    assert "Bad code" not in found.detail


async def test_google_being_down_is_not_the_persons_fault(
    google: Google, provider: Provider, secrets: LoginSecrets
) -> None:
    """An outage of the token endpoint means that a later try may work."""
    provider.answers("POST", TOKEN, status=503)
    assert type(await failure(google, secrets)) is ProviderUnavailable


async def test_keys_that_cannot_be_fetched_make_google_unavailable(
    google: Google, provider: Provider, secrets: LoginSecrets, signed: Signed
) -> None:
    """Without any keys nothing can be verified: the sign-in may work later."""
    token = signed()
    provider.answers("POST", TOKEN, {"id_token": token})
    provider.answers("GET", JWKS, status=500)
    assert type(await failure(google, secrets, token)) is ProviderUnavailable


@pytest.mark.parametrize(
    "changed",
    [{"nonce": "other"}, {"aud": "other"}, {"iss": "other"}, {"exp": SECONDS - 60}, {"sub": ""}, {"events": {}}],
    ids=lambda changed: next(iter(changed)),
)
async def test_a_token_that_breaks_a_rule_is_rejected(
    google: Google, secrets: LoginSecrets, signed: Signed, answering: Answering, changed: dict[str, object]
) -> None:
    """Every rule for id_tokens holds here too, for this client, this issuer and this login."""
    token = signed(**changed)
    answering(token)
    assert type(await failure(google, secrets, token)) is IdentityRejected


async def test_a_token_of_another_login_is_rejected(
    google: Google, secrets: LoginSecrets, signed: Signed, answering: Answering
) -> None:
    """The nonce belongs to one login: a code that was injected from another login brings another nonce."""
    answering(signed())
    other = login_secrets(SigningKey(Secret("a secret of thirty-two bytes or more")), "a-state-of-another-login")
    assert type(await failure(google, other)) is IdentityRejected


@pytest.mark.parametrize("token", ["garbage", "a.b.c", "é", "x" * 16_384])
async def test_garbage_in_place_of_a_token_is_rejected_before_keys_are_fetched(
    google: Google, provider: Provider, secrets: LoginSecrets, token: str
) -> None:
    """A text that is not a token causes no request for keys."""
    provider.answers("POST", TOKEN, {"id_token": token})
    assert type(await failure(google, secrets)) is IdentityRejected
    assert [asked.url for asked in provider.asked] == [TOKEN]


@pytest.mark.parametrize("issuer", ["https://accounts.google.example", "accounts.google.example"])
async def test_both_spellings_of_the_issuer_are_google(
    google: Google, secrets: LoginSecrets, signed: Signed, answering: Answering, issuer: str
) -> None:
    """The issuer may have the scheme or not, in tokens and in the callback's `iss`."""
    answering(signed(iss=issuer))
    assert await google.identify(CODE, secrets, NOW)
    assert issuer in google.issuers


def test_a_configuration_does_not_show_its_secret() -> None:
    """A printed configuration, in a log line or a traceback, does not show its secret."""
    assert CONFIG.client_secret.reveal() not in repr(CONFIG)
