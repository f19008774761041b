"""Facebook's OIDC code flow with PKCE (FACEBOOK_PKCE): the requests, and the answers that are refused."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import sentinel
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from nextarget.errors import IdentityRejected, ProblemError, ProviderFailed, ProviderUnavailable
from nextarget.model import Identity, Millis
from nextarget.model import Provider as Name
from nextarget.providers.facebook import Facebook
from nextarget.providers.http.client import ProviderHttp
from nextarget.tokens.login import LoginSecrets
from nextarget.tokens.provider_tokens import MAX_TOKEN_LENGTH
from tests.providers.conftest import FACEBOOK, Provider
from tests.tokens.forging import contains_part_of, rs256, unsigned

CONFIG = replace(FACEBOOK, pkce=True)
CODE = "AQDf7code-of-facebook-that-nobody-may-see"
ACCESS_TOKEN = "EAAGm0PX4ZCpsBAOZCZB-token-of-a-person"
TOKEN = "https://graph.facebook.example/v26.0/oauth/access_token"
PROOF = hmac.new(CONFIG.client_secret.encode(), ACCESS_TOKEN.encode(), hashlib.sha256).hexdigest()
PROFILE = "https://graph.facebook.example/v26.0/me"
ME = f"{PROFILE}?fields=id,email&appsecret_proof={PROOF}"
SECONDS = 1_900_000_000
NOW = Millis(SECONDS * 1000)
SUBJECT = "10224601733318501"
EMAIL = "ada@lovelace.example"
KID = "a1b2c3"
MISSING = sentinel.missing

Signed = Callable[..., str]
Answering = Callable[..., Provider]


@pytest.fixture
def facebook(http: aiohttp.ClientSession) -> Facebook:
    return Facebook(CONFIG, ProviderHttp(http, Name("facebook")))


@pytest.fixture
def signed(signing_key: RSAPrivateKey, secrets: LoginSecrets) -> Signed:
    """An id_token that answers this login, with some claims changed."""

    def signed(*, key: RSAPrivateKey = signing_key, kid: str = KID, **changed: Any) -> str:
        claims = {
            "iss": "https://www.facebook.com",
            "aud": CONFIG.client_id,
            "sub": SUBJECT,
            "nonce": secrets.nonce,
            "iat": SECONDS,
            "exp": SECONDS + 3600,
            "jti": "1d2e.0a9b",
            "email": EMAIL,
            "email_verified": True,
        } | changed
        claims = {name: value for name, value in claims.items() if value is not MISSING}
        return rs256({"alg": "RS256", "typ": "JWT", "kid": kid}, claims, key)

    return signed


@pytest.fixture
def answering(provider: Provider, jwks_of: Callable[..., dict[str, Any]]) -> Answering:
    """Make Facebook answer the exchange with this id_token, and every later request correctly."""

    def answering(id_token: object, *, subject: str = SUBJECT) -> Provider:
        answer = {"access_token": ACCESS_TOKEN, "token_type": "bearer", "expires_in": 5183944}
        provider.answers("POST", TOKEN, answer | ({} if id_token is MISSING else {"id_token": id_token}))
        provider.answers("GET", CONFIG.jwks_uri, jwks_of(KID), repeat=True)
        provider.answers("GET", ME, {"id": subject, "email": EMAIL, "verified": True})
        return provider

    return answering


async def failure(facebook: Facebook, secrets: LoginSecrets, *hidden: str) -> ProblemError:
    """The error of a sign-in; its note holds no secret."""
    with pytest.raises(ProblemError) as caught:
        await facebook.identify(CODE, secrets, NOW)
    error = caught.value
    assert error.note
    for text in (CODE, ACCESS_TOKEN, CONFIG.client_secret.reveal(), PROOF, secrets.code_verifier, *hidden):
        assert not contains_part_of(error.note, text)
    return error


def test_the_dialog_is_told_nonce_and_challenge(facebook: Facebook, secrets: LoginSecrets) -> None:
    """The dialog also gets the usual parameters. The verifier stays here. Without `openid`, Facebook ignores nonce
    and challenge."""
    url = facebook.authorization_url(secrets, ask_person=False)
    assert parse_qs(urlsplit(url).query) == {
        "client_id": [CONFIG.client_id],
        "redirect_uri": [CONFIG.redirect_uri],
        "response_type": ["code"],
        "scope": ["openid,email"],
        "state": [secrets.state],
        "nonce": [secrets.nonce],
        "code_challenge": [secrets.code_challenge],
        "code_challenge_method": ["S256"],
    }
    assert secrets.code_verifier not in url


async def test_the_code_is_redeemed_with_the_verifier(
    facebook: Facebook, secrets: LoginSecrets, signed: Signed, answering: Answering
) -> None:
    """The id_token and the access token are of one person. The email never counts as verified."""
    provider = answering(signed())
    found = await facebook.identify(CODE, secrets, NOW)
    assert found == Identity(Name("facebook"), SUBJECT, EMAIL, email_verified=False)
    (exchange,) = [asked for asked in provider.asked if asked.method == "POST"]
    assert exchange.form == {
        "code": CODE,
        "client_id": CONFIG.client_id,
        "client_secret": CONFIG.client_secret.reveal(),
        "redirect_uri": CONFIG.redirect_uri,
        "code_verifier": secrets.code_verifier,
    }
    (profile,) = [asked for asked in provider.asked if asked.url.startswith(PROFILE)]
    assert profile.params["appsecret_proof"] == PROOF


async def test_no_secret_is_ever_part_of_a_url(
    facebook: Facebook, secrets: LoginSecrets, signed: Signed, answering: Answering
) -> None:
    """Facebook's page shows the exchange as a GET. We send a POST, since a query ends up in logs."""
    token = signed()
    provider = answering(token)
    await facebook.identify(CODE, secrets, NOW)
    for asked in provider.asked:
        for text in (CODE, CONFIG.client_secret.reveal(), ACCESS_TOKEN, secrets.code_verifier, secrets.nonce, token):
            assert text not in f"{asked.url} {asked.params}"


@pytest.mark.parametrize(
    "token",
    [MISSING, None, "", 1, True, ["token"], {"id_token": "token"}, "x" * (MAX_TOKEN_LENGTH + 1)],
    ids=["missing", "null", "empty", "number", "boolean", "list", "object", "huge"],
)
async def test_an_answer_without_an_id_token_is_refused(
    facebook: Facebook, secrets: LoginSecrets, answering: Answering, token: object
) -> None:
    """A code without `openid` is not bound to this login: it may be another person's."""
    provider = answering(token)
    assert type(await failure(facebook, secrets)) is ProviderFailed
    assert [asked.url for asked in provider.asked] == [TOKEN], "the access token is not even used"


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": "the-nonce-of-another-login"},
        {"nonce": MISSING},
        {"nonce": ""},
        {"iss": "https://limited.facebook.example"},
        {"iss": MISSING},
        {"aud": "999"},
        {"azp": "999"},
        {"exp": SECONDS - 60},
        {"iat": SECONDS + 60},
        {"sub": MISSING},
        {"sub": "10999999999999999"},
        {"kid": "unknown"},
        {"events": {}},
    ],
    ids="-".join,
)
async def test_an_id_token_that_does_not_answer_this_login_is_refused(
    facebook: Facebook, secrets: LoginSecrets, signed: Signed, answering: Answering, changed: dict[str, Any]
) -> None:
    """Every rule of OpenID Connect Core, 3.1.3.7 holds, and `sub` is the person of the access token."""
    token = signed(**changed)
    answering(token)
    assert type(await failure(facebook, secrets, token.split(".")[1])) is IdentityRejected


@pytest.mark.parametrize("forgery", ["signature", "none", "garbage"])
async def test_an_id_token_that_facebook_did_not_sign_is_refused(
    facebook: Facebook, secrets: LoginSecrets, signed: Signed, answering: Answering, forgery: str
) -> None:
    """The signature is checked although the token comes from Facebook's own server."""
    forged = {
        "signature": signed(key=generate_private_key(65537, 2048)),
        "none": unsigned({"alg": "none", "kid": KID}, {"sub": SUBJECT, "nonce": secrets.nonce}),
        "garbage": "certainly.not-a.token",
    }
    provider = answering(forged[forgery])
    assert type(await failure(facebook, secrets)) is IdentityRejected
    assert not [asked for asked in provider.asked if asked.url.startswith(PROFILE)]


async def test_a_profile_of_another_person_is_refused(
    facebook: Facebook, secrets: LoginSecrets, signed: Signed, answering: Answering
) -> None:
    """Only the id_token is bound to the login, so the access token must be of the same person."""
    answering(signed(), subject="3917624885011205")
    assert "two people" in str((await failure(facebook, secrets)).note)


async def test_keys_that_cannot_be_had_mean_later(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, signed: Signed
) -> None:
    """Without the keys, no one is signed in unchecked."""
    provider.answers("POST", TOKEN, {"access_token": ACCESS_TOKEN, "id_token": signed()})
    provider.answers("GET", CONFIG.jwks_uri, status=500, repeat=True)
    assert type(await failure(facebook, secrets)) is ProviderUnavailable


async def test_a_challenge_that_facebook_forgot_is_told_to_the_operator(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets
) -> None:
    """Facebook gives this answer where it has no PKCE for an app. The log names the parameter, so that an operator
    finds the setting."""
    message = "code_verifier param is provided without a code_challenge in authorization request."
    error = {"message": message, "type": "OAuthException", "code": 1, "fbtrace_id": "AbCdEfGhIjKlMnOpQrStU"}
    provider.answers("POST", TOKEN, {"error": error}, status=400)
    refused = await failure(facebook, secrets)
    assert type(refused) is ProviderFailed
    assert message in str(refused.note)
