"""The stand-in Google over real HTTP: its checks, its answers, and all of its faults."""

import base64
import hashlib
import hmac
import json
import time
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.auth import jwt as google_jwt

from nextarget.model import Provider
from nextarget.sandbox.people import PEOPLE, Fault, faults_of, people_of

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
AUTHORIZE, TOKEN, JWKS = "/sandbox/google/authorize", "/sandbox/google/token", "/sandbox/google/jwks"


@pytest.fixture
def clock(clock):
    """The real time: libraries that verify tokens use the real clock."""
    clock.seconds = time.time()
    return clock


@pytest.fixture
def asked(config):
    """The parameters that the server sends to the authorization endpoint."""
    return {
        "client_id": config.clients["google"].client_id,
        "redirect_uri": config.clients["google"].redirect_uri,
        "response_type": "code",
        "scope": "openid email",
        "state": "a state & more",
        "nonce": "a-nonce",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "prompt": "select_account",
    }


@pytest.fixture
def presented(config):
    """The parameters that the server sends to the token endpoint, without the code."""
    return {
        "client_id": config.clients["google"].client_id,
        "client_secret": config.clients["google"].client_secret.reveal(),
        "grant_type": "authorization_code",
        "redirect_uri": config.clients["google"].redirect_uri,
        "code_verifier": VERIFIER,
    }


@pytest.fixture
def authorize(client, asked):
    async def call(**changes):
        params = {name: value for name, value in (asked | changes).items() if value is not None}
        return await client.get(AUTHORIZE, params=params, allow_redirects=False)

    return call


@pytest.fixture
def code_for(authorize):
    async def call(person="ada", **changes):
        answer = await authorize(person=person, **changes)
        assert answer.status == 302
        return redirected(answer)["code"]

    return call


@pytest.fixture
def redeem(client, presented):
    async def call(code, /, **changes):
        form = {name: value for name, value in (presented | {"code": code} | changes).items() if value is not None}
        return await client.post(TOKEN, data=form)

    return call


@pytest.fixture
def id_token_of(code_for, redeem):
    async def call(person="ada", **changes):
        answer = await redeem(await code_for(person, **changes))
        assert answer.status == 200
        return (await answer.json())["id_token"]

    return call


def redirected(answer) -> dict[str, str]:
    query = parse_qs(urlsplit(answer.headers["Location"]).query, strict_parsing=True)
    return {name: value for name, [value] in query.items()}


def claims_of(token: str) -> dict[str, object]:
    return jwt.decode(token, options={"verify_signature": False})


async def key_of(client, token: str) -> jwt.PyJWK:
    keys = jwt.PyJWKSet.from_dict(await (await client.get(JWKS)).json())
    return keys[jwt.get_unverified_header(token)["kid"]]


async def test_a_person_in_the_query_is_redirected_at_once_with_what_google_sends(authorize, asked, config):
    """The Location header has code, state and iss (RFC 6749, 4.1.2; RFC 9207, 2)."""
    answer = await authorize(person="ada")
    assert answer.status == 302
    assert answer.headers["Location"].startswith(f"{config.clients['google'].redirect_uri}?")
    assert answer.headers["Cache-Control"] == "no-store"
    got = redirected(answer)
    assert got["state"] == asked["state"]
    assert got["iss"] == config.clients["google"].issuer
    assert got["scope"] == "email https://www.googleapis.com/auth/userinfo.email openid"
    assert got["code"]


async def test_a_code_becomes_a_verifiable_id_token(client, code_for, redeem, config, clock):
    """The answer has the fields and claims of OpenID Connect Core, 3.1.3.3 and 2. A published key verifies the RS256
    signature."""
    answer = await redeem(await code_for())
    assert answer.status == 200
    assert "no-store" in answer.headers["Cache-Control"]
    body = await answer.json()
    assert set(body) == {"access_token", "expires_in", "scope", "token_type", "id_token"}
    assert body["token_type"] == "Bearer"
    key = await key_of(client, body["id_token"])
    claims = jwt.decode(
        body["id_token"],
        key,
        algorithms=["RS256"],
        audience=config.clients["google"].client_id,
        issuer=config.clients["google"].issuer,
    )
    half = hashlib.sha256(body["access_token"].encode()).digest()[:16]
    assert claims == {
        "iss": config.clients["google"].issuer,
        "azp": config.clients["google"].client_id,
        "aud": config.clients["google"].client_id,
        "sub": PEOPLE["ada"].subject("google"),
        "email": PEOPLE["ada"].email,
        "email_verified": True,
        "nonce": "a-nonce",
        "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
        "iat": int(clock()),
        "exp": int(clock()) + 3600,
    }


async def test_googles_own_library_accepts_the_id_token(id_token_of, config):
    """The server verifies with google.auth.jwt, given the published keys by kid."""
    token = await id_token_of()
    kid = jwt.get_unverified_header(token)["kid"]
    pem = config.clients["google"].private_key.public_key().public_bytes(*_pem())
    claims = google_jwt.decode(token, certs={kid: pem}, audience=config.clients["google"].client_id)
    assert claims["sub"] == PEOPLE["ada"].subject("google")


def _pem():
    from cryptography.hazmat.primitives import serialization

    return serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo


@pytest.mark.parametrize("person", people_of(Provider("google")), ids=lambda person: person.key)
async def test_everybody_with_a_google_account_can_sign_in(id_token_of, person):
    """The id_token agrees with the list of sandbox people. A person without an email has no email claim."""
    claims = claims_of(await id_token_of(person.key))
    assert claims["sub"] == person.subject("google")
    assert claims.get("email") == person.email
    assert claims.get("email_verified") == (person.email_verified if person.email else None)


async def test_email_is_told_only_when_its_scope_was_asked_for(id_token_of):
    """developers.google.com/identity/openid-connect/openid-connect: the email needs the scope email."""
    claims = claims_of(await id_token_of(scope="openid"))
    assert "email" not in claims
    assert "email_verified" not in claims


async def test_without_a_nonce_in_the_request_there_is_none_in_the_token(id_token_of):
    """OpenID Connect Core, 3.1.2.1: the provider repeats the nonce unchanged, and invents none."""
    assert "nonce" not in claims_of(await id_token_of(nonce=None))


async def test_cancelling_goes_back_with_access_denied(authorize, asked):
    """RFC 6749, 4.1.2.1: the redirect has access_denied and the state."""
    answer = await authorize(person="cancel")
    assert answer.status == 302
    assert redirected(answer) == {"error": "access_denied", "state": asked["state"]}


async def test_without_a_person_a_page_offers_everybody_every_fault_and_cancel(authorize):
    """The page says that it is a stand-in, repeats the request in its form, and has the page headers."""
    answer = await authorize()
    assert answer.status == 200
    text = await answer.text()
    assert "Sandbox: not Google" in text
    assert 'name="state" value="a state &amp; more"' in text
    for person in people_of(Provider("google")):
        assert f'name="person" value="{person.key}"' in text
    for script in faults_of(Provider("google")):
        assert f'<option value="{script.fault}">' in text
    assert 'name="person" value="cancel"' in text
    assert "<b>bobby" not in text
    assert "<script" not in text
    assert " style=" not in text
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'")
    assert "form-action" not in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("prompt", [None, "", "consent", "select_account", "consent select_account", "none"])
async def test_with_a_person_every_prompt_signs_in(authorize, prompt):
    """OpenID Connect Core, 3.1.2.1: `person=` means that the person has already answered."""
    assert redirected(await authorize(person="ada", prompt=prompt))["code"]


async def test_prompt_none_without_a_person_says_that_nobody_is_signed_in(authorize, asked):
    """OpenID Connect Core, 3.1.2.6: the answer is login_required, without a page."""
    answer = await authorize(prompt="none")
    assert answer.status == 302
    assert redirected(answer) == {"error": "login_required", "state": asked["state"]}


async def test_a_fault_without_a_person_is_preselected_on_the_page(authorize):
    """A link to the page may name the fault. The page still asks for the person."""
    assert '<option value="expired" selected>' in await (await authorize(fault="expired")).text()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": "somebody-else"}, "invalid_client"),
        ({"client_id": None}, "invalid_client"),
        ({"redirect_uri": "http://127.0.0.1:8000/auth/google/callback/"}, "redirect_uri_mismatch"),
        ({"redirect_uri": None}, "redirect_uri_mismatch"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"scope": "email"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"person": "nobody"}, "unknown_person"),
        ({"person": "katherine"}, "unknown_person"),
        ({"fault": "missing_id"}, "unknown_fault"),
        ({"fault": "nonsense"}, "unknown_fault"),
        ({"prompt": "login"}, "invalid_request"),
        ({"prompt": "none select_account"}, "invalid_request"),
        ({"state": "x" * 2049}, "invalid_request"),
        ({"state": "a\nb"}, "invalid_request"),
    ],
)
async def test_a_wrong_authorization_request_gets_a_page_and_no_redirect(authorize, changes, error):
    """RFC 6749, 4.1.2.1: there is no redirect to an unchecked address. Google never redirects after a mistake."""
    answer = await authorize(**({"person": "ada"} | changes))
    assert answer.status == 400
    assert "Location" not in answer.headers
    assert f"<code>{error}</code>" in await answer.text()


async def test_a_repeated_parameter_is_refused_and_escaped(client, asked):
    """RFC 6749, 3.1: parameters must not be included more than once."""
    answer = await client.get(AUTHORIZE, params=[*asked.items(), ("<i>", "1"), ("<i>", "2")])
    assert answer.status == 400
    text = await answer.text()
    assert "&lt;i&gt;" in text
    assert "<i>" not in text


async def test_a_code_works_once(code_for, redeem):
    """RFC 6749, 4.1.2: the client must not use the code more than once."""
    code = await code_for()
    assert (await redeem(code)).status == 200
    answer = await redeem(code)
    assert answer.status == 400
    assert await answer.json() == {"error": "invalid_grant", "error_description": "Bad Request"}


async def test_a_code_lives_ten_minutes(code_for, redeem, clock):
    """RFC 6749, 4.1.2 recommends ten minutes at most."""
    early, late = await code_for(), await code_for()
    clock.seconds += 599
    assert (await redeem(early)).status == 200
    clock.seconds += 1
    assert (await (await redeem(late)).json())["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_id": "somebody-else"}, 401, "invalid_client"),
        ({"client_id": None}, 400, "invalid_request"),
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_secret": "wröng"}, 401, "invalid_client"),
        ({"client_secret": None}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": None}, 400, "invalid_request"),
        ({"code": "4/0Amadeup"}, 400, "invalid_grant"),
        ({"code": None}, 400, "invalid_request"),
        ({"redirect_uri": "http://127.0.0.1:8000/elsewhere"}, 400, "redirect_uri_mismatch"),
        ({"redirect_uri": None}, 400, "redirect_uri_mismatch"),
        ({"code_verifier": "w" * 43}, 400, "invalid_grant"),
        ({"code_verifier": "v"}, 400, "invalid_grant"),
        ({"code_verifier": None}, 400, "invalid_grant"),
    ],
)
async def test_a_wrong_token_request_gets_googles_error_and_spends_nothing(code_for, redeem, changes, status, error):
    """RFC 6749, 5.2: error JSON; a later correct request with the code still works."""
    code = await code_for()
    answer = await redeem(code, **changes)
    assert answer.status == status
    body = await answer.json()
    assert set(body) == {"error", "error_description"}
    assert body["error"] == error
    assert (await redeem(code)).status == 200


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"code": "x"}', {"Content-Type": "application/json"}),
        (b"\xff=\xfe", {"Content-Type": "application/x-www-form-urlencoded"}),
        (b"code=%ff", {"Content-Type": "application/x-www-form-urlencoded; charset=nonsense"}),
        (b"code=x", {"Content-Type": "application/x-www-form-urlencoded; charset*"}),
        (b"code=a&code=b", {"Content-Type": "application/x-www-form-urlencoded"}),
        (b"&".join(b"p%d=1" % n for n in range(50)), {"Content-Type": "application/x-www-form-urlencoded"}),
        (b"code=" + b"a" * 70_000, {"Content-Type": "application/x-www-form-urlencoded"}),
        (b"", {"Content-Type": "application/x-www-form-urlencoded"}),
        (b"junk", {"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"}),
    ],
    ids=[
        "json",
        "not-utf8",
        "odd-charset",
        "malformed-charset",
        "repeated",
        "too-many",
        "too-long",
        "empty",
        "encoded",
    ],
)
async def test_an_odd_body_is_invalid_request_and_never_a_500(client, body, headers):
    """RFC 6749, 3.2 and appendix B: a broken body is an invalid request."""
    answer = await client.post(TOKEN, data=body, headers=headers, skip_auto_headers=["Content-Encoding"])
    assert answer.status == 400
    assert (await answer.json())["error"] == "invalid_request"


async def test_the_token_endpoint_takes_post_alone(client):
    """RFC 6749, 3.2: the client must use POST."""
    assert (await client.get(TOKEN)).status == 405


async def test_the_published_keys_may_be_cached_and_hold_nothing_private(client):
    """RFC 7517, 5; Google publishes with Cache-Control: public, max-age."""
    answer = await client.get(JWKS)
    assert answer.headers["Cache-Control"].startswith("public, max-age=")
    [key] = (await answer.json())["keys"]
    assert set(key) == {"kty", "alg", "use", "kid", "n", "e"}


async def test_fault_slow_answers_late_but_correctly(code_for, redeem):
    """The sandbox's configuration has the delay. The answer is correct."""
    assert (await redeem(await code_for(fault="slow"))).status == 200


async def test_fault_slow_does_not_let_a_code_be_used_twice(code_for, redeem):
    """RFC 6749, 4.1.2 holds for two requests that wait at the same time."""
    import asyncio

    code = await code_for(fault="slow")
    answers = await asyncio.gather(redeem(code), redeem(code))
    assert sorted(answer.status for answer in answers) == [200, 400]


async def test_fault_error_500_answers_500_every_time(code_for, redeem):
    """A repeated request gets the same error."""
    code = await code_for(fault="error_500")
    assert [(await redeem(code)).status for _ in range(2)] == [500, 500]


async def test_fault_html_answers_a_web_page(code_for, redeem):
    """The answer has status 200, but is not JSON."""
    answer = await redeem(await code_for(fault="html"))
    assert answer.status == 200
    assert answer.content_type == "text/html"


async def test_fault_disconnect_hangs_up(code_for, redeem):
    """The connection ends without an answer."""
    code = await code_for(fault="disconnect")
    with pytest.raises(aiohttp.ClientConnectionError):
        await redeem(code)


async def test_fault_code_used_refuses_the_first_use(code_for, redeem):
    """The answer is the same as for a code that was redeemed before."""
    answer = await redeem(await code_for(fault="code_used"))
    assert (await answer.json())["error"] == "invalid_grant"


async def test_fault_bad_signature_does_not_verify(client, id_token_of):
    """The token has a published kid, but another key signed it."""
    token = await id_token_of(fault="bad_signature")
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, await key_of(client, token), algorithms=["RS256"], options={"verify_aud": False})


async def test_fault_alg_none_is_not_signed(id_token_of):
    """RFC 8725, 2.1: an unsigned token has the algorithm none."""
    token = await id_token_of(fault="alg_none")
    assert jwt.get_unverified_header(token)["alg"] == "none"
    assert token.endswith(".")


async def test_fault_hs256_public_key_is_keyed_with_the_public_key(id_token_of, config):
    """RFC 8725, 2.1: this token deceives a server that trusts the token's own alg."""
    token = await id_token_of(fault="hs256_public_key")
    signed, _, signature = token.rpartition(".")
    pem = config.clients["google"].private_key.public_key().public_bytes(*_pem())
    expected = base64.urlsafe_b64encode(hmac.digest(pem, signed.encode(), "sha256")).rstrip(b"=").decode()
    assert signature == expected
    assert json.loads(base64.urlsafe_b64decode(signed.split(".")[0] + "=="))["alg"] == "HS256"


async def test_fault_critical_header_is_well_signed_and_demands_an_extension(client, id_token_of):
    """The signature is good, but the header has an extension that a server must understand (RFC 7515, 4.1.11)."""
    token = await id_token_of(fault="critical_header")
    header = google_jwt.decode_header(token)
    assert all(extension in header for extension in header["crit"])
    keys = jwt.PyJWKSet.from_dict(await (await client.get(JWKS)).json())
    pem = keys[header["kid"]].key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert google_jwt.decode(token, certs={header["kid"]: pem})["sub"]


@pytest.mark.parametrize(
    ("fault", "claim"),
    [
        (Fault.WRONG_AUDIENCE, "aud"),
        (Fault.OTHER_AZP, "azp"),
        (Fault.WRONG_ISSUER, "iss"),
        (Fault.WRONG_NONCE, "nonce"),
        (Fault.MISSING_NONCE, "nonce"),
        (Fault.MISSING_SUB, "sub"),
        (Fault.EVENTS_CLAIM, "events"),
        (Fault.HUGE_TOKEN, "padding"),
    ],
)
async def test_a_fault_in_a_claim_alters_that_claim_alone_under_a_good_signature(client, id_token_of, fault, claim):
    """So a test knows which check refused the token."""
    honest, token = claims_of(await id_token_of()), await id_token_of(fault=fault)
    forged = jwt.decode(token, await key_of(client, token), algorithms=["RS256"], options={"verify_aud": False})
    different = {name for name in honest.keys() | forged.keys() if honest.get(name) != forged.get(name)}
    assert different - {"at_hash"} == {claim}
    assert (claim in forged) is not fault.startswith("missing")
    assert (len(token) > 64 * 1024) is (fault is Fault.HUGE_TOKEN)


@pytest.mark.parametrize(
    ("fault", "offset"),
    [
        (Fault.EXPIRED, -7200),
        (Fault.ISSUED_IN_FUTURE, 3600),
        (Fault.CLOCK_SKEW, 5),
    ],
)
async def test_a_fault_in_time_moves_iat_and_exp(id_token_of, clock, fault, offset):
    """OpenID Connect Core, 3.1.3.7, rules 9 and 10."""
    claims = claims_of(await id_token_of(fault=fault))
    assert claims["iat"] == int(clock()) + offset
    assert claims["exp"] == claims["iat"] + 3600


async def test_fault_garbage_token_is_no_token(id_token_of):
    """The text has three parts, and none of them is JSON."""
    with pytest.raises(jwt.DecodeError):
        claims_of(await id_token_of(fault="garbage_token"))


async def test_fault_unknown_kid_names_a_key_that_is_not_published(client, id_token_of):
    """The signature is good, but the kid is unknown."""
    token = await id_token_of(fault="unknown_kid")
    with pytest.raises(KeyError):
        await key_of(client, token)


async def test_fault_rotated_keys_publishes_the_new_key_and_keeps_the_old(client, id_token_of):
    """A token from before the rotation verifies while its key is published."""
    before = await id_token_of()
    after = await id_token_of(fault="rotated_keys")
    for token in (before, after):
        claims = jwt.decode(token, await key_of(client, token), algorithms=["RS256"], options={"verify_aud": False})
        assert claims["sub"] == PEOPLE["ada"].subject("google")
    assert jwt.get_unverified_header(before)["kid"] != jwt.get_unverified_header(after)["kid"]


async def test_the_published_keys_stay_few_however_often_they_rotate(client, id_token_of):
    """The memory is limited: the oldest rotated key is removed, but never the sandbox's own key."""
    own = jwt.get_unverified_header(await id_token_of())["kid"]
    for _ in range(6):
        await id_token_of(fault="rotated_keys")
    kids = [key["kid"] for key in (await (await client.get(JWKS)).json())["keys"]]
    assert len(kids) == 5
    assert own in kids


@pytest.mark.parametrize(
    ("fault", "iss"),
    [("wrong_iss_parameter", "https://accounts.mixed-up.invalid"), ("no_iss_parameter", None)],
)
async def test_the_iss_parameter_can_be_wrong_or_missing(authorize, fault, iss):
    """RFC 9207, 2.4: a client compares the parameter if it is present."""
    assert redirected(await authorize(person="ada", fault=fault)).get("iss") == iss
