"""The SDKs of a simulated app, over real HTTP: the tokens that they return, and all faults of these tokens."""

import base64
import hashlib
import hmac
import json
import re
import time

import jwt
import pytest

from nextarget.model import Provider
from nextarget.sandbox.people import ID_TOKEN_FAULTS, PEOPLE, Fault, people_of
from nextarget.sandbox.standins.facebook_sdk import ACCESS_TOKEN_FAULTS

GOOGLE, FACEBOOK = "/sandbox/google/sdk", "/sandbox/facebook/sdk"
KEYS = {GOOGLE: "/sandbox/google/jwks", FACEBOOK: "/sandbox/facebook/limited/jwks"}
BOTH = pytest.mark.parametrize("sdk", [GOOGLE, FACEBOOK], ids=["google", "facebook"])


@pytest.fixture
def clock(clock):
    """The real time: libraries that verify tokens use the real clock."""
    clock.seconds = time.time()
    return clock


@pytest.fixture
def ask(client):
    """Asks an SDK to sign Ada in, with a nonce. A change to None leaves a parameter out."""

    async def call(sdk, **changes):
        kind = {"kind": "limited"} if sdk == FACEBOOK else {}
        params = {"person": "ada", "nonce": "a-nonce"} | kind | changes
        return await client.get(sdk, params={name: value for name, value in params.items() if value is not None})

    return call


@pytest.fixture
def id_token_of(ask):
    async def call(sdk, **changes):
        answer = await ask(sdk, **changes)
        assert answer.status == 200
        return (await answer.json())["id_token"]

    return call


@pytest.fixture
def access_token_of(ask):
    async def call(**changes):
        answer = await ask(FACEBOOK, kind="classic", nonce=None, **changes)
        assert answer.status == 200
        body = await answer.json()
        assert set(body) == {"access_token"}
        return body["access_token"]

    return call


@pytest.fixture
def graph(client, config):
    """Asks the Graph API as the server does: `me` with the token, `debug_token` with the app's own token."""
    secret = config.clients["facebook"].client_secret.reveal()

    async def call(path, token):
        if path == "debug_token":
            params, bearer = {"input_token": token}, f"{config.clients['facebook'].client_id}|{secret}"
        else:
            proof = hmac.digest(secret.encode(), token.encode(), "sha256").hex()
            params, bearer = {"fields": "id,email", "appsecret_proof": proof}, token
        headers = {"Authorization": f"Bearer {bearer}"}
        return await (await client.get(f"/sandbox/facebook/v26.0/{path}", params=params, headers=headers)).json()

    return call


def claims_of(token: str) -> dict[str, object]:
    return jwt.decode(token, options={"verify_signature": False})


async def verified(client, sdk, token, **checks) -> dict[str, object]:
    """The claims of a token whose signature a published key verifies."""
    keys = jwt.PyJWKSet.from_dict(await (await client.get(KEYS[sdk])).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    options = {"verify_aud": "audience" in checks, "verify_iat": False, "verify_exp": False}
    return jwt.decode(token, key, algorithms=["RS256"], options=options, **checks)


async def test_google_hands_the_app_an_id_token_for_its_server(client, ask, config, clock):
    """developers.google.com/identity/sign-in/ios/backend-auth: aud is the server's client id, azp the app's."""
    answer = await ask(GOOGLE)
    assert answer.status == 200
    assert answer.content_type == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    body = await answer.json()
    assert set(body) == {"id_token", "access_token"}
    assert body["access_token"].startswith("ya29.")
    half = hashlib.sha256(body["access_token"].encode()).digest()[:16]
    assert await verified(client, GOOGLE, body["id_token"], audience=config.clients["google"].client_id) == {
        "iss": config.clients["google"].issuer,
        "azp": config.clients["google"].client_ids[0],
        "aud": config.clients["google"].client_id,
        "sub": PEOPLE["ada"].subject("google"),
        "email": PEOPLE["ada"].email,
        "email_verified": True,
        "nonce": "a-nonce",
        "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
        "iat": int(clock()),
        "exp": int(clock()) + 3600,
    }


async def test_google_makes_the_token_for_the_app_itself_when_asked(id_token_of, config):
    """An app that names its own client id gets a token with this id in aud and azp."""
    [app] = config.clients["google"].client_ids
    claims = claims_of(await id_token_of(GOOGLE, client_id=app))
    assert (claims["aud"], claims["azp"]) == (app, app)
    claims = claims_of(await id_token_of(GOOGLE, client_id=config.clients["google"].client_id))
    assert (claims["aud"], claims["azp"]) == (config.clients["google"].client_id, app)


async def test_without_an_app_of_its_own_the_server_is_the_authorized_party(aiohttp_client, config, clock):
    """GOOGLE_CLIENT_IDS may be empty."""
    from dataclasses import replace

    from aiohttp import web

    from nextarget.sandbox.app import attach

    app = web.Application()
    google = replace(config.clients["google"], client_ids=())
    attach(app, replace(config, clients={"google": google}), now=clock)
    answer = await (await aiohttp_client(app)).get(GOOGLE, params={"person": "ada"})
    assert claims_of((await answer.json())["id_token"])["azp"] == config.clients["google"].client_id


async def test_facebooks_limited_login_hands_the_app_an_id_token(client, ask, config, clock):
    """developers.facebook.com/docs/facebook-login/limited-login/token/validating lists the claims."""
    answer = await ask(FACEBOOK)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    body = await answer.json()
    assert set(body) == {"id_token"}
    claims = await verified(client, FACEBOOK, body["id_token"], audience=config.clients["facebook"].client_id)
    assert claims.pop("jti") != claims_of((await (await ask(FACEBOOK)).json())["id_token"])["jti"]
    assert claims == {
        "iss": "https://www.facebook.com",
        "aud": config.clients["facebook"].client_id,
        "sub": PEOPLE["ada"].subject("facebook"),
        "email": PEOPLE["ada"].email,
        "nonce": "a-nonce",
        "iat": int(clock()),
        "exp": int(clock()) + 3600,
    }


async def test_limited_logins_keys_are_its_own_and_hold_nothing_private(client):
    """RFC 7517, 5. A token of one provider never verifies with the other provider's keys."""
    answer = await client.get(KEYS[FACEBOOK])
    assert answer.headers["Cache-Control"].startswith("public, max-age=")
    [facebook] = (await answer.json())["keys"]
    [google] = (await (await client.get(KEYS[GOOGLE])).json())["keys"]
    assert set(facebook) == {"kty", "alg", "use", "kid", "n", "e"}
    assert (facebook["kty"], facebook["alg"], facebook["use"]) == ("RSA", "RS256", "sig")
    assert facebook["kid"] != google["kid"]
    assert facebook["n"] != google["n"]


@pytest.mark.parametrize(
    ("sdk", "person"),
    [
        pytest.param(sdk, person, id=f"{provider}-{person.key}")
        for sdk, provider in ((GOOGLE, Provider("google")), (FACEBOOK, Provider("facebook")))
        for person in people_of(provider)
    ],
)
async def test_everybody_signs_in_as_who_they_are_in_a_browser(id_token_of, sdk, person):
    """The subject is the same for an SDK and a browser. A person without an email has no email claim."""
    claims = claims_of(await id_token_of(sdk, person=person.key))
    assert claims["sub"] == (person.subject("google") if sdk == GOOGLE else person.subject("facebook"))
    assert claims.get("email") == person.email
    assert ("email" in claims) is (person.email is not None)
    assert ("email_verified" in claims) is (sdk == GOOGLE and person.email is not None)


@BOTH
async def test_the_nonce_goes_into_the_token_as_it_was_given(id_token_of, sdk):
    """A test of an SDK that hashes the nonce sends the hash."""
    hashed = hashlib.sha256(b"raw").hexdigest()
    assert claims_of(await id_token_of(sdk, nonce=hashed))["nonce"] == hashed


async def test_without_a_nonce_google_puts_none_in_and_facebook_one_of_its_own(id_token_of):
    """Facebook's LoginConfiguration defaults to a UUID."""
    assert "nonce" not in claims_of(await id_token_of(GOOGLE, nonce=None))
    nonces = [claims_of(await id_token_of(FACEBOOK, nonce=None))["nonce"] for _ in range(2)]
    assert all(re.fullmatch(r"[0-9A-F-]{36}", nonce) for nonce in nonces)
    assert nonces[0] != nonces[1]


async def test_classic_login_hands_the_app_an_access_token_that_graph_knows(access_token_of, graph, config, clock):
    """docs/facebook-login/guides/access-tokens/debugging: both permissions, 60 days."""
    token = await access_token_of()
    ada = PEOPLE["ada"]
    assert await graph("me", token) == {"id": ada.subject("facebook"), "email": ada.email}
    data = (await graph("debug_token", token))["data"]
    assert data["is_valid"] is True
    assert data["type"] == "USER"
    assert data["app_id"] == config.clients["facebook"].client_id
    assert data["user_id"] == ada.subject("facebook")
    assert data["scopes"] == ["email", "public_profile"]
    assert data["expires_at"] == int(clock()) + 60 * 24 * 3600


@pytest.mark.parametrize(
    ("sdk", "changes", "error"),
    [
        (GOOGLE, {"person": None}, "invalid_request"),
        (GOOGLE, {"person": "nobody"}, "unknown_person"),
        (GOOGLE, {"person": "katherine"}, "unknown_person"),
        (GOOGLE, {"person": "cancel"}, "access_denied"),
        (GOOGLE, {"fault": "nonsense"}, "unknown_fault"),
        (GOOGLE, {"fault": "slow"}, "unknown_fault"),
        (GOOGLE, {"client_id": "somebody-else"}, "invalid_client"),
        (GOOGLE, {"client_id": ""}, "invalid_client"),
        (GOOGLE, {"kind": "limited"}, "invalid_request"),
        (GOOGLE, {"falt": "expired"}, "invalid_request"),
        (GOOGLE, {"nonce": "n" * 2049}, "invalid_request"),
        (GOOGLE, {"nonce": "a\nb"}, "invalid_request"),
        (FACEBOOK, {"person": None}, "invalid_request"),
        (FACEBOOK, {"person": "grace"}, "unknown_person"),
        (FACEBOOK, {"person": "cancel"}, "access_denied"),
        (FACEBOOK, {"fault": "other_app"}, "unknown_fault"),
        (FACEBOOK, {"kind": None}, "invalid_request"),
        (FACEBOOK, {"kind": "both"}, "invalid_request"),
        (FACEBOOK, {"nonce": ""}, "invalid_request"),
        (FACEBOOK, {"nonce": "two words"}, "invalid_request"),
        (FACEBOOK, {"client_id": "1"}, "invalid_request"),
        (FACEBOOK, {"kind": "classic"}, "invalid_request"),
        (FACEBOOK, {"kind": "classic", "nonce": None, "fault": "bad_signature"}, "unknown_fault"),
        (FACEBOOK, {"kind": "classic", "nonce": None, "person": None}, "invalid_request"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong_in_json(ask, sdk, changes, error):
    """With an ignored wrong parameter, a test would prove nothing. An access token cannot have a nonce."""
    answer = await ask(sdk, **changes)
    assert answer.status == 400
    assert answer.content_type == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    body = await answer.json()
    assert set(body) == {"error", "error_description"}
    assert body["error"] == error


@BOTH
async def test_a_parameter_sent_twice_is_refused(client, sdk):
    """RFC 6749, 3.1: a parameter must not occur twice."""
    answer = await client.get(sdk, params=[("person", "ada"), ("person", "max")])
    assert answer.status == 400
    assert (await answer.json())["error"] == "invalid_request"


@pytest.mark.parametrize("path", ["/sandbox/google/authorize", "/sandbox/facebook/v26.0/dialog/oauth"])
async def test_a_provider_makes_no_code_for_a_head(client, path):
    """Otherwise a link checker would get a code without a decision of the person."""
    assert (await client.head(path, params={"person": "ada"})).status == 405


@BOTH
async def test_an_sdk_answers_get_alone(client, sdk):
    """The SDK's route only returns tokens, so other methods are refused."""
    for method in ("POST", "HEAD", "OPTIONS"):
        assert (await client.request(method, sdk)).status == 405


@BOTH
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
async def test_a_fault_in_a_claim_alters_that_claim_alone_under_a_good_signature(
    client, id_token_of, sdk, fault, claim
):
    """So a test knows which check refused the token."""
    honest, token = claims_of(await id_token_of(sdk)), await id_token_of(sdk, fault=fault)
    forged = await verified(client, sdk, token)
    different = {name for name in honest.keys() | forged.keys() if honest.get(name) != forged.get(name)}
    assert different - {"at_hash", "jti"} == {claim}
    assert (claim in forged) is not fault.startswith("missing")
    assert (len(token) > 64 * 1024) is (fault is Fault.HUGE_TOKEN)


async def test_another_audience_looks_like_one_of_the_same_provider(id_token_of, config):
    """The audience has a valid form, so only its value can be the reason of a refusal. Google's ids are names,
    Facebook's are numbers."""
    google = claims_of(await id_token_of(GOOGLE, fault="wrong_audience"))["aud"]
    assert google.endswith(".apps.googleusercontent.com")
    assert google not in {config.clients["google"].client_id, *config.clients["google"].client_ids}
    facebook = claims_of(await id_token_of(FACEBOOK, fault="wrong_audience"))["aud"]
    assert re.fullmatch(r"\d{15,17}", facebook)
    assert facebook != config.clients["facebook"].client_id


@BOTH
@pytest.mark.parametrize(("fault", "offset"), [("expired", -7200), ("issued_in_future", 3600), ("clock_skew", 5)])
async def test_a_fault_in_time_moves_iat_and_exp(client, id_token_of, sdk, fault, offset):
    """OpenID Connect Core, 3.1.3.7, rules 9 and 10."""
    honest, token = claims_of(await id_token_of(sdk)), await id_token_of(sdk, fault=fault)
    moved = await verified(client, sdk, token)
    assert [moved[name] - honest[name] for name in ("iat", "exp")] == [offset, offset]


@BOTH
async def test_a_fault_in_the_signature_does_not_verify(client, id_token_of, sdk):
    """RFC 8725, 2.1: another key signed the token, or no key, or the public key served as an HMAC secret."""
    with pytest.raises(jwt.InvalidSignatureError):
        await verified(client, sdk, await id_token_of(sdk, fault="bad_signature"))
    for fault, algorithm in (("alg_none", "none"), ("hs256_public_key", "HS256")):
        token = await id_token_of(sdk, fault=fault)
        assert jwt.get_unverified_header(token)["alg"] == algorithm
        with pytest.raises(jwt.InvalidAlgorithmError):
            await verified(client, sdk, token)


async def test_fault_hs256_public_key_is_keyed_with_facebooks_own_public_key(id_token_of, config):
    """This token deceives a server that trusts the token's own alg."""
    from cryptography.hazmat.primitives import serialization

    signed, _, signature = (await id_token_of(FACEBOOK, fault="hs256_public_key")).rpartition(".")
    pem = (
        config.clients["facebook"]
        .private_key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    expected = base64.urlsafe_b64encode(hmac.digest(pem, signed.encode(), "sha256")).rstrip(b"=").decode()
    assert signature == expected
    assert json.loads(base64.urlsafe_b64decode(signed.split(".")[0] + "=="))["alg"] == "HS256"


@BOTH
async def test_fault_garbage_token_is_no_token(id_token_of, sdk):
    """The text has three parts, and none of them is JSON."""
    with pytest.raises(jwt.DecodeError):
        claims_of(await id_token_of(sdk, fault="garbage_token"))


@BOTH
async def test_fault_unknown_kid_names_a_key_that_is_not_published(client, id_token_of, sdk):
    """The signature is good, but the kid is unknown."""
    with pytest.raises(KeyError):
        await verified(client, sdk, await id_token_of(sdk, fault="unknown_kid"))


@BOTH
async def test_fault_rotated_keys_publishes_the_new_key_where_it_belongs_and_keeps_the_old(client, id_token_of, sdk):
    """A token from before the rotation verifies while its key is published. The other provider's keys do not change."""
    other = KEYS[FACEBOOK if sdk == GOOGLE else GOOGLE]
    untouched = await (await client.get(other)).json()
    before, after = await id_token_of(sdk), await id_token_of(sdk, fault="rotated_keys")
    for token in (before, after):
        assert (await verified(client, sdk, token))["nonce"] == "a-nonce"
    assert jwt.get_unverified_header(before)["kid"] != jwt.get_unverified_header(after)["kid"]
    assert await (await client.get(other)).json() == untouched


@pytest.mark.parametrize(
    ("fault", "differing"),
    [
        ("expired", {"issued_at", "expires_at", "data_access_expires_at"}),
        ("invalid_token", {"is_valid", "error"}),
        ("other_app", {"app_id"}),
        ("other_user", {"user_id"}),
        ("odd_types", {"app_id", "user_id", "issued_at", "expires_at"}),
    ],
)
async def test_a_fault_of_an_access_token_shows_in_debug_token_alone(access_token_of, graph, fault, differing):
    """A server that reads the profile without debug_token would accept these tokens, and its tests would show it."""
    honest = (await graph("debug_token", await access_token_of()))["data"]
    token = await access_token_of(fault=fault)
    data = (await graph("debug_token", token))["data"]
    assert {name for name in honest.keys() | data.keys() if honest.get(name) != data.get(name)} == differing
    assert str((await graph("me", token))["id"]) == PEOPLE["ada"].subject("facebook")


async def test_an_expired_access_token_ended_an_hour_ago_and_an_invalid_one_says_why(access_token_of, graph, clock):
    """docs/facebook-login/guides/access-tokens/debugging: subcode 460 is a changed password."""
    data = (await graph("debug_token", await access_token_of(fault="expired")))["data"]
    assert data["expires_at"] == int(clock()) - 3600
    data = (await graph("debug_token", await access_token_of(fault="invalid_token")))["data"]
    assert data["is_valid"] is False
    assert (data["error"]["code"], data["error"]["subcode"]) == (190, 460)


@pytest.mark.parametrize("fault", ["missing_id", "graph_error", "rate_limited", "session_ended"])
async def test_a_fault_of_the_profile_works_with_an_sdks_token_too(access_token_of, graph, fault):
    """In this case debug_token answers correctly, and the profile is wrong."""
    token = await access_token_of(fault=fault)
    assert (await graph("debug_token", token))["data"]["is_valid"] is True
    assert (await graph("me", token)).get("id") != PEOPLE["ada"].subject("facebook")


@pytest.mark.parametrize(
    ("sdk", "kind", "faults"),
    [
        (GOOGLE, None, ID_TOKEN_FAULTS),
        (FACEBOOK, "limited", ID_TOKEN_FAULTS),
        (FACEBOOK, "classic", ACCESS_TOKEN_FAULTS),
    ],
)
async def test_a_refused_fault_is_answered_with_those_there_are_and_each_works(client, sdk, kind, faults):
    """The error lists all faults that work here."""
    params = {"person": "ada"} | ({"kind": kind} if kind else {})
    sentence = (await (await client.get(sdk, params=params | {"fault": "?"})).json())["error_description"]
    assert sentence.partition("There are: ")[2].split(", ") == list(faults)
    for fault in faults:
        assert (await client.get(sdk, params=params | {"fault": fault})).status == 200, fault
