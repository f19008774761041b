"""Facebook: the requests that we send, and the result of every answer."""

import hashlib
import hmac
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from nextarget.errors import (
    IdentityRejected,
    ProblemError,
    ProviderFailed,
    ProviderRefused,
    ProviderUnavailable,
)
from nextarget.model import Identity, Millis
from nextarget.model import Provider as Name
from nextarget.providers.facebook import Facebook
from nextarget.providers.http.client import ProviderHttp
from nextarget.tokens.login import LoginSecrets
from tests.providers.conftest import FACEBOOK as CONFIG
from tests.providers.conftest import Provider
from tests.tokens.forging import contains_part_of

CODE = "AQDf7code-of-facebook-that-nobody-may-see"
ACCESS_TOKEN = "EAAGm0PX4ZCpsBAOZCZB-token-of-a-person"
TOKEN = "https://graph.facebook.example/v26.0/oauth/access_token"
PROOF = hmac.new(CONFIG.client_secret.encode(), ACCESS_TOKEN.encode(), hashlib.sha256).hexdigest()
ME = f"https://graph.facebook.example/v26.0/me?fields=id,email&appsecret_proof={PROOF}"
NOW = Millis(1_900_000_000_000)
SUBJECT = "10224601733318501"


@pytest.fixture
def facebook(http: aiohttp.ClientSession) -> Facebook:
    return Facebook(CONFIG, ProviderHttp(http, Name("facebook")))


def graph_error(code: object, message: str = "An error.", **changed: object) -> dict[str, object]:
    facts = {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "AbCdEfGhIjKlMnOpQrStU"}
    return {"error": facts | changed}


async def failure(facebook: Facebook, secrets: LoginSecrets, *hidden: str) -> ProblemError:
    """The error of a sign-in. Its sentence is our own, and its note has no secret."""
    with pytest.raises(ProblemError) as caught:
        await facebook.identify(CODE, secrets, NOW)
    error = caught.value
    assert error.detail == type(error).sentence
    assert error.note
    for text in (CODE, ACCESS_TOKEN, CONFIG.client_secret.reveal(), PROOF, *hidden):
        assert not contains_part_of(error.note, text)
    return error


def test_the_person_is_sent_with_the_state(facebook: Facebook, secrets: LoginSecrets) -> None:
    """The dialog asks for an email and nothing more, and gets no secret. Facebook has no option to always ask the
    person."""
    assert not facebook.asks_person
    assert facebook.authorization_url(secrets, ask_person=True) == facebook.authorization_url(secrets, ask_person=False)
    url = urlsplit(facebook.authorization_url(secrets, ask_person=False))
    assert f"{url.scheme}://{url.netloc}{url.path}" == CONFIG.authorization_endpoint
    assert parse_qs(url.query) == {
        "client_id": [CONFIG.client_id],
        "redirect_uri": [CONFIG.redirect_uri],
        "response_type": ["code"],
        "scope": ["email"],
        "state": [secrets.state],
    }


async def test_a_code_becomes_an_identity(facebook: Facebook, provider: Provider, secrets: LoginSecrets) -> None:
    """The code becomes a token, and the token a profile; Facebook's emails never count as verified."""
    provider.answers("POST", TOKEN, {"access_token": ACCESS_TOKEN, "token_type": "bearer", "expires_in": 5183944})
    provider.answers("GET", ME, {"id": SUBJECT, "email": "ada@lovelace.example", "verified": True})
    found = await facebook.identify(CODE, secrets, NOW)
    assert found == Identity(Name("facebook"), SUBJECT, "ada@lovelace.example", email_verified=False)
    (token_request,) = [asked for asked in provider.asked if asked.method == "POST"]
    assert token_request.form == {
        "code": CODE,
        "client_id": CONFIG.client_id,
        "client_secret": CONFIG.client_secret.reveal(),
        "redirect_uri": CONFIG.redirect_uri,
    }


async def test_every_question_to_the_graph_proves_who_asks(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets
) -> None:
    """appsecret_proof is the HMAC-SHA256 of the token with the app secret, in hex. The token itself is in a header."""
    provider.answers("POST", TOKEN, {"access_token": ACCESS_TOKEN})
    provider.answers("GET", ME, {"id": SUBJECT})
    await facebook.identify(CODE, secrets, NOW)
    questions = [asked for asked in provider.asked if asked.url != TOKEN]
    assert questions
    for asked in questions:
        assert asked.params["appsecret_proof"] == PROOF
        assert asked.headers["Authorization"] == f"Bearer {ACCESS_TOKEN}"


async def test_no_secret_is_ever_part_of_a_url(facebook: Facebook, provider: Provider, secrets: LoginSecrets) -> None:
    """URLs end up in logs, so no URL has the code, the secret or the token, although Facebook would accept them
    there."""
    provider.answers("POST", TOKEN, {"access_token": ACCESS_TOKEN})
    provider.answers("GET", ME, {"id": SUBJECT})
    await facebook.identify(CODE, secrets, NOW)
    for asked in provider.asked:
        for text in (CODE, CONFIG.client_secret.reveal(), ACCESS_TOKEN, secrets.state):
            assert text not in f"{asked.url} {asked.params}"


@pytest.mark.parametrize(
    "email", [None, "", 1, True, ["ada@x.example"], {}, "no at sign", "a b@c.example", "x" * 250 + "@x.example"]
)
async def test_a_person_without_a_usable_email_signs_in_all_the_same(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, email: object
) -> None:
    """Accounts made with a phone number have no email."""
    provider.answers("POST", TOKEN, {"access_token": ACCESS_TOKEN})
    provider.answers("GET", ME, {"id": SUBJECT} | ({"email": email} if email is not None else {}))
    found = await facebook.identify(CODE, secrets, NOW)
    assert found == Identity(Name("facebook"), SUBJECT, None, email_verified=False)


@pytest.mark.parametrize(
    "subject",
    [
        None,
        "",
        10224601733318501.0,
        -1,
        10**32,
        True,
        [SUBJECT],
        "me",
        "1 2",
        "-1",
        "1" * 33,
        "1\n",
        "\u0661\u0662",
        "1\x00",
    ],
    ids=repr,
)
async def test_a_profile_without_a_usable_id_is_rejected(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, subject: object
) -> None:
    """An id is ASCII digits, as text or as a number. A profile with another id is rejected."""
    provider.answers("POST", TOKEN, {"access_token": ACCESS_TOKEN})
    provider.answers("GET", ME, {"email": "ada@x.example"} | ({"id": subject} if subject is not None else {}))
    assert type(await failure(facebook, secrets)) is IdentityRejected


async def test_an_id_that_is_a_number_is_the_same_person(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets
) -> None:
    """Facebook writes ids sometimes as text and sometimes as numbers."""
    provider.answers("POST", TOKEN, {"access_token": ACCESS_TOKEN})
    provider.answers("GET", ME, {"id": int(SUBJECT)})
    assert (await facebook.identify(CODE, secrets, NOW)).subject == SUBJECT


@pytest.mark.parametrize(
    "token",
    [None, "", 1, True, ["token"], {}, "x" * 8193, "two words", "token\r\nX-Header: 1", "tokén", "\x00"],
    ids=lambda token: repr(token)[:20],
)
async def test_an_answer_without_a_usable_token_failed(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, token: object
) -> None:
    """A text that cannot be in a header is not a token, and no request follows."""
    provider.answers("POST", TOKEN, {"token_type": "bearer"} | ({"access_token": token} if token is not None else {}))
    assert type(await failure(facebook, secrets)) is ProviderFailed
    assert [asked.url for asked in provider.asked] == [TOKEN]


@pytest.mark.parametrize("subcode", [36007, 36008, 36009, None])
async def test_a_code_that_facebook_no_longer_takes_is_refused(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, subcode: int | None
) -> None:
    """Error 100 at the token endpoint is about the code: the person has to sign in again."""
    answer = graph_error(100, "This authorization code has been used.", error_subcode=subcode)
    provider.answers("POST", TOKEN, answer, status=400)
    error = await failure(facebook, secrets)
    assert type(error) is ProviderRefused
    assert "facebook oauth/access_token: status 400, OAuthException 100/" in str(error.note)


@pytest.mark.parametrize("code", [101, 102, 190, 191, "100", "1", 100.5, True, None, [100]])
async def test_another_error_at_the_token_endpoint_is_not_the_persons_fault(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, code: object
) -> None:
    """A wrong secret or redirect is a fault of our configuration. An error code of another type says nothing."""
    provider.answers("POST", TOKEN, graph_error(code), status=400)
    assert type(await failure(facebook, secrets)) is ProviderFailed


@pytest.mark.parametrize(
    "message",
    [
        "Error validating client secret.",
        "Missing client_secret",
        "code_verifier param is provided without a code_challenge in authorization request.",
        "Invalid code verifier.",
        "Missing authorization code",
    ],
)
async def test_error_1_of_our_own_making_is_a_failure(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, message: str
) -> None:
    """At the token endpoint, code 1 means a problem at Facebook or a wrong secret; only the message shows which."""
    provider.answers("POST", TOKEN, graph_error(1, message), status=400)
    assert type(await failure(facebook, secrets)) is ProviderFailed


@pytest.mark.parametrize("code", [1, 2, 4, 17, 32, 341, 368, 613, 80000, 80014])
@pytest.mark.parametrize("where", ["token", "me"])
async def test_an_error_that_passes_means_later(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, where: str, code: int
) -> None:
    """Rate limits and temporary errors have their own codes, at any endpoint."""
    if where == "token":
        provider.answers("POST", TOKEN, graph_error(code), status=400)
    else:
        provider.answers("POST", TOKEN, {"access_token": ACCESS_TOKEN})
        provider.answers("GET", ME, graph_error(code), status=403)
    error = await failure(facebook, secrets)
    assert type(error) is ProviderUnavailable
    assert error.retryable


@pytest.mark.parametrize("code", [100, 190, 99999, None])
async def test_an_error_that_calls_itself_transient_means_later(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, code: int | None
) -> None:
    """is_transient decides, whatever the code is."""
    provider.answers("POST", TOKEN, graph_error(code, is_transient=True), status=400)
    assert type(await failure(facebook, secrets)) is ProviderUnavailable


@pytest.mark.parametrize("transient", [False, None, "true", 1, []])
async def test_only_true_is_transient(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, transient: object
) -> None:
    """Values that only look like true do not count."""
    provider.answers("POST", TOKEN, graph_error(190, is_transient=transient), status=400)
    assert type(await failure(facebook, secrets)) is ProviderFailed


@pytest.mark.parametrize("subcode", [None, 458, 459, 460, 463, 464, 467, 492])
@pytest.mark.parametrize("code", [102, 190])
async def test_a_token_that_has_ended_right_after_the_exchange_means_to_begin_again(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, code: int, subcode: int | None
) -> None:
    """Meta's page on errors says to get a new access token. Only a new sign-in gives one."""
    provider.answers("POST", TOKEN, {"access_token": ACCESS_TOKEN})
    provider.answers("GET", ME, graph_error(code, error_subcode=subcode), status=400)
    error = await failure(facebook, secrets)
    assert type(error) is ProviderRefused
    assert f"facebook me: status 400, OAuthException {code}/{subcode}" in str(error.note)


@pytest.mark.parametrize("code", [10, 100, 200])
async def test_a_profile_that_is_refused_failed(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, code: int
) -> None:
    """At the profile, error 100 is about our question and not about the person's code."""
    provider.answers("POST", TOKEN, {"access_token": ACCESS_TOKEN})
    provider.answers("GET", ME, graph_error(code), status=400)
    assert type(await failure(facebook, secrets)) is ProviderFailed


@pytest.mark.parametrize("error", [None, "text", [], 5, {}, {"code": {}}, {"message": {"a": ["b"]}}])
async def test_an_error_in_no_known_form_failed(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, error: object
) -> None:
    """An error object of any shape raises no other exception."""
    provider.answers("POST", TOKEN, {"error": error}, status=400)
    assert type(await failure(facebook, secrets)) is ProviderFailed


@pytest.mark.parametrize("code", [1, 4, 100, 190])
async def test_what_facebook_quotes_is_not_repeated(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets, code: int
) -> None:
    """An error text that quotes the code, the token or an email reaches neither the caller nor the log."""
    quoted = f"Failed for {CODE} and {ACCESS_TOKEN} of ada@lovelace.example"
    provider.answers("POST", TOKEN, graph_error(code, quoted, type=f"Type {ACCESS_TOKEN}"), status=400)
    error = await failure(facebook, secrets, "ada@lovelace.example", "lovelace.example", "AbCdEfGhIjKlMnOpQrStU")
    assert "Failed for" not in error.detail


async def test_facebook_being_down_is_not_the_persons_fault(
    facebook: Facebook, provider: Provider, secrets: LoginSecrets
) -> None:
    """An outage of the token endpoint or of the profile means that a later try may work."""
    provider.answers("POST", TOKEN, status=500)
    assert type(await failure(facebook, secrets)) is ProviderUnavailable
    provider.answers("POST", TOKEN, {"access_token": ACCESS_TOKEN})
    provider.answers("GET", ME, status=502)
    assert type(await failure(facebook, secrets)) is ProviderUnavailable


def test_a_configuration_does_not_show_its_secret() -> None:
    """A printed configuration, in a log line or a traceback, does not show its secret."""
    assert CONFIG.client_secret.reveal() not in repr(CONFIG)
