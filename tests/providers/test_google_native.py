"""Google's SDK inside an app: which id_tokens an app may present, and how they are verified."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from nextarget.errors import IdentityRejected, InvalidRequest, ProviderUnavailable
from nextarget.model import Identity, Millis
from nextarget.model import Provider as Name
from nextarget.providers.base import NativeIdentity, SubjectTokenType
from nextarget.providers.google import Google
from nextarget.providers.http.client import ProviderHttp
from nextarget.tokens.login import LoginSecrets
from tests.providers.conftest import GOOGLE, Provider
from tests.tokens.forging import contains_part_of, rs256, unsigned

JWKS = "https://www.google.example/oauth2/v3/certs"
IOS, ANDROID = "123456789012-ios.apps.googleusercontent.com", "123456789012-android.apps.googleusercontent.com"
CONFIG = replace(GOOGLE, client_ids=(IOS, ANDROID))
SECONDS = 1_900_000_000
NOW = Millis(SECONDS * 1000)
NONCE = "a-nonce-that-we-issued-to-the-app"
ADA = Identity(Name("google"), "108204268033311374501", "ada@lovelace.example", email_verified=True)
Signed = Callable[..., str]


@pytest.fixture
def google(http: aiohttp.ClientSession, provider: Provider, jwks_of: Callable[..., Any]) -> Google:
    """Google, which publishes its keys once."""
    provider.answers("GET", JWKS, jwks_of("key-1"))
    return Google(CONFIG, ProviderHttp(http, Name("google")))


@pytest.fixture
def signed(signing_key: RSAPrivateKey) -> Signed:
    """An id_token as the SDK gets it, with some claims changed; a claim changed to None is left out."""

    def signed(key: RSAPrivateKey = signing_key, kid: str = "key-1", **changed: object) -> str:
        claims: dict[str, object] = {
            "iss": CONFIG.issuer,
            "aud": CONFIG.client_id,
            "azp": IOS,
            "sub": ADA.subject,
            "email": ADA.email,
            "email_verified": True,
            "nonce": NONCE,
            "iat": SECONDS,
            "exp": SECONDS + 3600,
        }
        kept = {name: value for name, value in (claims | changed).items() if value is not None}
        return rs256({"alg": "RS256", "kid": kid, "typ": "JWT"}, kept, key)

    return signed


async def present(google: Google, token: str, raw_nonce: str | None = None, now: Millis = NOW) -> NativeIdentity:
    return await google.identify_native(token, SubjectTokenType.ID_TOKEN, raw_nonce=raw_nonce, now=now)


async def rejected(google: Google, token: str, raw_nonce: str | None = None) -> str:
    """The reason of a rejection. It is for the app, and has no part of the token."""
    with pytest.raises(IdentityRejected) as caught:
        await present(google, token, raw_nonce)
    assert not contains_part_of(caught.value.reason, token)
    assert "lovelace" not in caught.value.reason
    return caught.value.reason


async def test_an_id_token_says_who_is_signed_in_and_which_nonce_it_carries(
    google: Google, signed: Signed, provider: Provider
) -> None:
    """Only the public keys are requested. Another part of the code decides whether the nonce is ours."""
    assert await present(google, signed()) == NativeIdentity(ADA, NONCE)
    assert [asked.url for asked in provider.asked] == [JWKS]


@pytest.mark.parametrize("form", ["plain", "hashed"])
async def test_the_raw_nonce_may_come_beside_the_token(google: Google, signed: Signed, form: str) -> None:
    """An SDK may hash the nonce or not; the nonce that we issued counts."""
    carried = hashlib.sha256(NONCE.encode()).hexdigest() if form == "hashed" else NONCE
    assert await present(google, signed(nonce=carried), NONCE) == NativeIdentity(ADA, NONCE)


@pytest.mark.parametrize("aud", [CONFIG.client_id, IOS, ANDROID])
@pytest.mark.parametrize("azp", [CONFIG.client_id, IOS, ANDROID, None])
async def test_a_token_for_any_client_of_the_project_is_accepted(
    google: Google, signed: Signed, aud: str, azp: str | None
) -> None:
    """Android's tokens have the server's client id as audience and the app's as `azp`. The audience of iOS's tokens
    is the app's."""
    assert (await present(google, signed(aud=aud, azp=azp))).identity == ADA


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"aud": "another.apps.googleusercontent.com"}, "aud"),
        ({"aud": [IOS, ANDROID]}, "aud"),
        ({"aud": None}, "aud"),
        ({"azp": "another.apps.googleusercontent.com"}, "azp"),
        ({"iss": "https://evil.example"}, "issuer"),
        ({"iat": SECONDS - 7200, "exp": SECONDS - 3600}, "expired"),
        ({"iat": SECONDS + 60}, "future"),
        ({"nonce": None}, "nonce"),
        ({"nonce": ""}, "nonce"),
        ({"nonce": 5}, "nonce"),
        ({"sub": None}, "sub"),
        ({"events": {}}, "security event"),
    ],
    ids=repr,
)
async def test_a_token_that_breaks_a_rule_is_rejected_and_the_rule_named(
    google: Google, signed: Signed, changed: dict[str, object], why: str
) -> None:
    """Every rule for id_tokens holds for native tokens too. The reason names the rule for the app's developer."""
    assert why in await rejected(google, signed(**changed))


async def test_a_nonce_that_was_not_in_the_token_is_rejected(google: Google, signed: Signed) -> None:
    """A fresh nonce beside an old token does not make the token fresh."""
    assert "not the one sent beside it" in await rejected(google, signed(), "another-nonce-that-we-issued")
    hashed = hashlib.sha256(NONCE.encode()).hexdigest()
    assert "not the one sent beside it" in await rejected(google, signed(nonce=NONCE), hashed)


async def test_a_token_that_google_did_not_sign_is_rejected(google: Google, signed: Signed) -> None:
    """A token with another key, without a signature, or with an unpublished kid is rejected."""
    await rejected(google, signed(key=generate_private_key(65537, 2048)))
    await rejected(google, signed(kid="key-2"))
    await rejected(google, unsigned({"alg": "none", "kid": "key-1"}, {"sub": ADA.subject}))


@pytest.mark.parametrize("token", ["garbage", "a.b.c", "\u00e9", "x" * 16_384, "x" * 20_000])
async def test_garbage_asks_nobody_for_keys(google: Google, provider: Provider, token: str) -> None:
    """Anyone can send any text here, so it must cause no request."""
    await rejected(google, token)
    assert provider.asked == []


async def test_an_access_token_is_not_accepted(google: Google, provider: Provider) -> None:
    """An access token does not name its client, so the token of any other app would work (RFC 9700, 4.9)."""
    with pytest.raises(InvalidRequest, match="id_token"):
        await google.identify_native("ya29.token", SubjectTokenType.ACCESS_TOKEN, raw_nonce=None, now=NOW)
    assert provider.asked == []


async def test_a_login_in_the_browser_takes_no_token_of_an_app(
    google: Google, signed: Signed, provider: Provider
) -> None:
    """The other client ids are only for native tokens. In the code flow a token must be for its own client."""
    provider.answers("POST", CONFIG.token_endpoint, {"id_token": signed(aud=IOS)})
    with pytest.raises(IdentityRejected, match=IdentityRejected.sentence) as caught:
        await google.identify("code", LoginSecrets("state", NONCE, "verifier"), NOW)
    assert "aud" in caught.value.reason


async def test_without_keys_google_is_unavailable(
    http: aiohttp.ClientSession, provider: Provider, signed: Signed
) -> None:
    """The app may try again later with the same token: its nonce was not used up."""
    provider.answers("GET", JWKS, status=500)
    google = Google(CONFIG, ProviderHttp(http, Name("google")))
    with pytest.raises(ProviderUnavailable):
        await present(google, signed())


def test_a_native_identity_does_not_show_its_nonce() -> None:
    """A printed identity, in a log line or a traceback, does not show its nonce."""
    assert NONCE not in repr(NativeIdentity(ADA, NONCE))
