"""The stand-in Facebook over real HTTP: the dialog, the code exchange, the Graph API, and all of its faults."""

import base64
import hashlib
import hmac
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jwt
import pytest

from nextarget.model import Provider
from nextarget.sandbox.people import ID_TOKEN_FAULTS, PEOPLE, faults_of, people_of

DIALOG = "/sandbox/facebook/dialog/oauth"
GRAPH = "/sandbox/facebook/v26.0"


@pytest.fixture
def asked(config):
    """The parameters that the server sends to the Login dialog."""
    return {
        "client_id": config.clients["facebook"].client_id,
        "redirect_uri": config.clients["facebook"].redirect_uri,
        "response_type": "code",
        "scope": "email",
        "state": "a state & more",
    }


@pytest.fixture
def presented(config):
    """The parameters that the server sends to the code exchange, without the code."""
    return {
        "client_id": config.clients["facebook"].client_id,
        "client_secret": config.clients["facebook"].client_secret.reveal(),
        "redirect_uri": config.clients["facebook"].redirect_uri,
    }


@pytest.fixture
def dialog(client, asked):
    async def call(**changes):
        params = {name: value for name, value in (asked | changes).items() if value is not None}
        return await client.get(DIALOG, params=params, allow_redirects=False)

    return call


@pytest.fixture
def code_for(dialog):
    async def call(person="ada", **changes):
        return redirected(await dialog(person=person, **changes))["code"]

    return call


@pytest.fixture
def exchange(client, presented):
    async def call(code, /, *, method="POST", **changes):
        sent = {name: value for name, value in (presented | {"code": code} | changes).items() if value is not None}
        where = {"params": sent} if method == "GET" else {"data": sent}
        return await client.request(method, f"{GRAPH}/oauth/access_token", **where)

    return call


@pytest.fixture
def token_for(code_for, exchange):
    async def call(person="ada", **changes):
        answer = await exchange(await code_for(person, **changes))
        assert answer.status == 200
        return (await answer.json())["access_token"]

    return call


@pytest.fixture
def proof(config):
    def of(token):
        return hmac.digest(config.clients["facebook"].client_secret.encode(), token.encode(), "sha256").hex()

    return of


@pytest.fixture
def me(client, proof):
    async def call(token, *, headers=None, **params):
        sent = {"fields": "id,email", "appsecret_proof": proof(token)} | params
        sent = {name: value for name, value in sent.items() if value is not None}
        headers = {"Authorization": f"Bearer {token}"} if headers is None else headers
        return await client.get(f"{GRAPH}/me", params=sent, headers=headers)

    return call


@pytest.fixture
def debug_token(client, config):
    async def call(input_token, *, bearer=None):
        own = f"{config.clients['facebook'].client_id}|{config.clients['facebook'].client_secret.reveal()}"
        params = {} if input_token is None else {"input_token": input_token}
        return await client.get(
            f"{GRAPH}/debug_token", params=params, headers={"Authorization": f"Bearer {bearer or own}"}
        )

    return call


def redirected(answer) -> dict[str, str]:
    assert answer.status == 302
    query = parse_qs(urlsplit(answer.headers["Location"]).query, strict_parsing=True)
    return {name: value for name, [value] in query.items()}


async def error_of(answer) -> dict[str, object]:
    error = (await answer.json())["error"]
    assert {"message", "type", "code", "fbtrace_id"} <= set(error)
    return error


async def test_a_person_in_the_query_is_redirected_at_once(dialog, asked, config):
    """docs/facebook-login/guides/advanced/manual-flow; Facebook appends #_=_ to the redirect."""
    answer = await dialog(person="ada")
    assert redirected(answer)["state"] == asked["state"]
    assert answer.headers["Location"].startswith(f"{config.clients['facebook'].redirect_uri}?code=")
    assert answer.headers["Location"].endswith("#_=_")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_code_becomes_an_access_token_by_get_and_by_post(code_for, exchange, method):
    """docs/facebook-login/guides/advanced/manual-flow, Exchanging Code for an Access Token."""
    answer = await exchange(await code_for(), method=method)
    assert answer.status == 200
    body = await answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in"}
    assert body["token_type"] == "bearer"


@pytest.mark.parametrize("person", people_of(Provider("facebook")), ids=lambda person: person.key)
async def test_everybody_with_a_facebook_account_has_a_profile(token_for, me, person):
    """docs/graph-api/reference/user: a person without an email lacks the key."""
    answer = await me(await token_for(person.key))
    expected = {"id": person.subject("facebook")} | ({"email": person.email} if person.email else {})
    assert await answer.json() == expected


async def test_augusta_has_adas_email_and_another_id(token_for, me):
    """Two people may have the same email, so an email does not identify a person."""
    ada, augusta = [await (await me(await token_for(key))).json() for key in ("ada", "augusta")]
    assert ada["email"] == augusta["email"]
    assert ada["id"] != augusta["id"]


async def test_only_the_fields_asked_for_are_answered(token_for, me):
    """docs/graph-api/results: the answer has the requested fields and always the id. The default is id and name."""
    token = await token_for()
    assert set(await (await me(token, fields="name")).json()) == {"id", "name"}
    assert set(await (await me(token, fields=None)).json()) == {"id", "name"}


async def test_email_is_told_only_with_its_permission(token_for, me):
    """docs/permissions: without the permission `email`, the profile has no email."""
    assert set(await (await me(await token_for(scope=None))).json()) == {"id"}


async def test_the_token_may_come_in_the_oauth_header_or_as_a_parameter(token_for, me):
    """docs/graph-api/overview: access tokens."""
    token = await token_for()
    assert (await me(token, headers={"Authorization": f"OAuth {token}"})).status == 200
    assert (await me(token, headers={}, access_token=token)).status == 200


async def test_paths_without_a_version_answer_too(client, config):
    """docs/graph-api/guides/versioning: unversioned calls."""
    for path, status in {
        "/sandbox/facebook/oauth/access_token": 400,
        "/sandbox/facebook/me": 400,
        "/sandbox/facebook/debug_token": 400,
        "/sandbox/facebook/v26.0/dialog/oauth": 400,
        "/sandbox/facebook/nonsense/me": 404,
    }.items():
        assert (await client.get(path)).status == status, path


async def test_cancelling_goes_back_with_what_facebook_says(dialog, asked):
    """docs/facebook-login/guides/advanced/manual-flow, Canceled Login: the redirect has these parameters."""
    assert redirected(await dialog(person="cancel")) == {
        "error": "access_denied",
        "error_code": "200",
        "error_description": "Permissions error",
        "error_reason": "user_denied",
        "state": asked["state"],
    }


async def test_without_a_person_a_page_offers_everybody_every_fault_and_cancel(dialog):
    """The page is marked as a stand-in."""
    answer = await dialog()
    assert answer.status == 200
    text = await answer.text()
    assert "Sandbox: not Facebook" in text
    for person in people_of(Provider("facebook")):
        assert f'name="person" value="{person.key}"' in text
    for script in faults_of(Provider("facebook")):
        assert f'<option value="{script.fault}">' in text
    assert 'name="person" value="cancel"' in text


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "1"},
        {"client_id": None},
        {"redirect_uri": "https://attacker.example/"},
        {"redirect_uri": None},
        {"response_type": "token"},
        {"scope": "email,user_birthday"},
        {"auth_type": "login"},
        {"auth_type": ""},
        {"config_id": "1", "override_default_response_type": "true"},
        {"config_id": "1", "scope": None},
        {"config_id": "x", "scope": None, "override_default_response_type": "true"},
        {"person": "grace"},
        {"fault": "bad_signature"},
        {"state": "x" * 2049},
    ],
)
async def test_a_wrong_diarequest_answered_gets_a_page_and_no_redirect(dialog, changes):
    """RFC 6749, 4.1.2.1: the dialog never redirects to an address that was not checked."""
    answer = await dialog(**({"person": "ada"} | changes))
    assert answer.status == 400
    assert answer.content_type == "text/html"
    assert "Location" not in answer.headers


async def test_a_configuration_takes_the_place_of_permissions(token_for, me):
    """docs/facebook-login/facebook-login-for-business: the configuration has the email here, and the request must
    ask for a code."""
    token = await token_for(config_id="987654321", scope=None, override_default_response_type="true")
    assert set(await (await me(token)).json()) == {"id", "email"}


@pytest.mark.parametrize("auth_type", ["rerequest", "reauthenticate", "reauthenticate,rerequest"])
async def test_the_dialog_takes_what_it_may_be_told_to_ask(code_for, auth_type):
    """docs/facebook-login/guides/advanced/re-authentication: `auth_type` is a comma-separated list."""
    assert await code_for(auth_type=auth_type)


@pytest.mark.parametrize(
    ("changes", "code", "subcode"),
    [
        ({"client_id": None}, 101, None),
        ({"client_id": "1"}, 101, None),
        ({"client_secret": None}, 1, None),
        ({"client_secret": "wröng"}, 1, None),
        ({"redirect_uri": None}, 191, None),
        ({"redirect_uri": "http://127.0.0.1:8000/elsewhere"}, 100, 36008),
        ({"code": None}, 1, None),
        ({"code": "AQmadeup"}, 100, None),
    ],
)
async def test_a_wrong_exchange_gets_facebooks_error_and_spends_nothing(code_for, exchange, changes, code, subcode):
    """docs/graph-api/guides/error-handling has the errors. The code can still be redeemed afterwards."""
    authorization_code = await code_for()
    answer = await exchange(authorization_code, **changes)
    assert answer.status == 400
    error = await error_of(answer)
    assert (error["type"], error["code"], error.get("error_subcode")) == ("OAuthException", code, subcode)
    assert (await exchange(authorization_code)).status == 200


async def test_a_code_works_once_and_for_ten_minutes(code_for, exchange, clock):
    """RFC 6749, 4.1.2; Facebook's error_subcode for a used code is 36009."""
    used, late = await code_for(), await code_for()
    assert (await exchange(used)).status == 200
    assert (await error_of(await exchange(used)))["error_subcode"] == 36009
    clock.seconds += 600
    assert (await error_of(await exchange(late)))["code"] == 100


async def test_a_parameter_in_both_query_and_form_is_refused(client, presented):
    """RFC 6749, 3.2: a parameter must not occur twice."""
    answer = await client.post(f"{GRAPH}/oauth/access_token", params={"client_id": "1"}, data=presented)
    assert (await error_of(answer))["code"] == 100


async def test_a_profile_demands_the_appsecret_proof(token_for, me):
    """docs/graph-api/guides/secure-requests."""
    token = await token_for()
    for wrong in (None, "0" * 64, "ö"):
        answer = await me(token, appsecret_proof=wrong)
        assert answer.status == 400
        error = await error_of(answer)
        assert (error["type"], error["code"]) == ("GraphMethodException", 100)
    assert error["message"] == "Invalid appsecret_proof provided in the API argument"


async def test_a_profile_demands_a_living_token(token_for, me, clock):
    """docs/graph-api/guides/error-handling: 190 is an expired or invalid token, 104 none at all."""
    token = await token_for()
    assert (await error_of(await me(token, headers={})))["code"] == 104
    assert (await error_of(await me("made up")))["code"] == 190
    assert (await error_of(await me(token, access_token="another")))["code"] == 100
    assert (await error_of(await me(token, fields="id,password")))["code"] == 100
    clock.seconds += 60 * 24 * 3600
    assert (await error_of(await me(token)))["code"] == 190


async def test_debug_token_describes_a_token_to_the_app(token_for, debug_token, config, clock):
    """docs/graph-api/reference/debug_token."""
    data = (await (await debug_token(await token_for("katherine"))).json())["data"]
    assert data["app_id"] == config.clients["facebook"].client_id
    assert data["type"] == "USER"
    assert data["is_valid"] is True
    assert data["user_id"] == PEOPLE["katherine"].subject("facebook")
    assert data["scopes"] == ["email", "public_profile"]
    assert data["issued_at"] == int(clock())
    assert data["expires_at"] == int(clock()) + 60 * 24 * 3600


async def test_debug_token_calls_an_unknown_token_invalid(debug_token):
    """The answer is 200 with is_valid false. Only a text that cannot be a Facebook token gives an error."""
    answer = await debug_token("EAAmade-up")
    assert answer.status == 200
    assert (await answer.json())["data"]["is_valid"] is False
    assert (await error_of(await debug_token("made-up")))["code"] == 190


async def test_debug_token_knows_the_apps_own_token(debug_token, config):
    """From this answer a server learns whether its own credentials are valid."""
    own = f"{config.clients['facebook'].client_id}|{config.clients['facebook'].client_secret.reveal()}"
    data = (await (await debug_token(own)).json())["data"]
    assert (data["app_id"], data["type"], data["is_valid"]) == (config.clients["facebook"].client_id, "APP", True)
    wrong = f"{config.clients['facebook'].client_id}|another secret"
    assert (await error_of(await debug_token(own, bearer=wrong)))["code"] == 190
    assert (await error_of(await debug_token(wrong)))["code"] == 190


async def test_debug_token_wants_the_apps_own_token_and_an_input(token_for, debug_token):
    """docs/facebook-login/guides/access-tokens: an app access token is `app id|app secret`."""
    token = await token_for()
    assert (await error_of(await debug_token(token, bearer=token)))["code"] == 100
    assert (await error_of(await debug_token(None)))["code"] == 100


async def test_fault_slow_answers_late_but_correctly(code_for, exchange):
    """The sandbox's configuration has the delay."""
    assert (await exchange(await code_for(fault="slow"))).status == 200


async def test_fault_error_500_answers_500(code_for, exchange):
    """A repeated request gets the same error."""
    code = await code_for(fault="error_500")
    assert [(await exchange(code)).status for _ in range(2)] == [500, 500]


async def test_fault_html_answers_a_web_page(code_for, exchange):
    """The answer has status 200, but is not JSON."""
    assert (await exchange(await code_for(fault="html"))).content_type == "text/html"


async def test_fault_disconnect_hangs_up(code_for, exchange):
    """The connection ends without an answer."""
    code = await code_for(fault="disconnect")
    with pytest.raises(aiohttp.ClientConnectionError):
        await exchange(code)


async def test_fault_code_used_refuses_the_first_use(code_for, exchange):
    """The answer is the same as for a code that was redeemed before."""
    answer = await exchange(await code_for(fault="code_used"))
    assert (await error_of(answer))["error_subcode"] == 36009


async def test_fault_missing_token_answers_without_one(code_for, exchange):
    """The answer has status 200 and is JSON, but has no access_token."""
    answer = await exchange(await code_for(fault="missing_token"))
    assert answer.status == 200
    assert "access_token" not in await answer.json()


async def test_fault_missing_id_leaves_it_out(token_for, me):
    """The profile has no id."""
    assert await (await me(await token_for(fault="missing_id"))).json() == {"email": PEOPLE["ada"].email}


async def test_fault_odd_types_changes_the_types(token_for, me):
    """In the profile the id is a number, and the email is a list."""
    profile = await (await me(await token_for(fault="odd_types"))).json()
    assert profile == {"id": int(PEOPLE["ada"].subject("facebook")), "email": [PEOPLE["ada"].email]}


async def test_fault_odd_types_changes_the_types_in_debug_token_too(token_for, debug_token, config):
    """In debug_token, ids are numbers and times are text."""
    data = (await (await debug_token(await token_for(fault="odd_types"))).json())["data"]
    assert (data["app_id"], data["user_id"]) == (
        int(config.clients["facebook"].client_id),
        int(PEOPLE["ada"].subject("facebook")),
    )
    assert data["expires_at"].isdecimal()
    assert data["issued_at"].isdecimal()


async def test_fault_graph_error_quotes_the_email(token_for, me):
    """This fault lets other tests prove that the server does not repeat a provider's text."""
    answer = await me(await token_for(fault="graph_error"))
    assert answer.status == 400
    error = await error_of(answer)
    assert error["type"] == "OAuthException"
    assert PEOPLE["ada"].email in error["message"]


async def test_fault_rate_limited_is_code_4(token_for, me):
    """docs/graph-api/overview/rate-limiting."""
    answer = await me(await token_for(fault="rate_limited"))
    assert answer.status == 403
    assert (await error_of(answer))["code"] == 4


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("graph_unknown", (400, 1, None)),
        ("graph_down", (503, 2, "120")),
        ("blocked", (400, 368, "86400")),
        ("session_ended", (400, 102, None)),
    ],
)
async def test_faults_of_the_graph_have_the_codes_of_metas_page(token_for, me, fault, expected):
    """docs/graph-api/guides/error-handling."""
    answer = await me(await token_for(fault=fault))
    assert (answer.status, (await error_of(answer))["code"], answer.headers.get("Retry-After")) == expected


async def test_fault_foreign_app_has_debug_token_refuse(token_for, debug_token):
    """debug_token does not describe a token of another app to us."""
    answer = await debug_token(await token_for(fault="foreign_app"))
    assert answer.status == 400
    assert (await error_of(answer))["code"] == 100


async def test_fault_busy_asks_to_come_back_later(code_for, exchange):
    """The answer is 503 with a Retry-After (RFC 9110, 10.2.3 and 15.6.4)."""
    answer = await exchange(await code_for(fault="busy"))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "120")


async def test_fault_other_app_and_other_user_lie_in_debug_token(token_for, debug_token, config):
    """debug_token names another app, or another person than the profile."""
    data = (await (await debug_token(await token_for(fault="other_app"))).json())["data"]
    assert data["app_id"] != config.clients["facebook"].client_id
    data = (await (await debug_token(await token_for(fault="other_user"))).json())["data"]
    assert data["user_id"] != PEOPLE["ada"].subject("facebook")


VERIFIER = "a-verifier-that-is-as-long-as-one-must-be-43chars"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
OIDC = {
    "scope": "openid,email",
    "nonce": "a nonce of the login",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


async def test_openid_brings_an_id_token_with_the_nonce(code_for, exchange, client, config):
    """docs/facebook-login/guides/advanced/oidc-token: the published keys verify the id_token."""
    answer = await (await exchange(await code_for(**OIDC), code_verifier=VERIFIER)).json()
    assert set(answer) == {"access_token", "token_type", "expires_in", "id_token"}
    (jwk,) = (await (await client.get("/sandbox/facebook/limited/jwks")).json())["keys"]
    claims = jwt.decode(
        answer["id_token"],
        jwt.PyJWK(jwk).key,
        algorithms=["RS256"],
        audience=config.clients["facebook"].client_id,
        issuer="https://www.facebook.com",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims["nonce"] == OIDC["nonce"]
    assert claims["sub"] == PEOPLE["ada"].subject("facebook")


@pytest.mark.parametrize("scope", ["openid email", "email,openid", "openid"])
async def test_scopes_may_be_parted_by_commas_or_spaces(code_for, exchange, scope):
    """docs/facebook-login/guides/advanced/manual-flow: scope."""
    answer = await exchange(await code_for(**OIDC | {"scope": scope}), code_verifier=VERIFIER)
    assert "id_token" in await answer.json()


async def test_without_a_nonce_the_id_token_has_none(code_for, exchange):
    """A request without a nonce gives an id_token without a nonce."""
    answer = await (await exchange(await code_for(scope="openid"))).json()
    assert "nonce" not in jwt.decode(answer["id_token"], options={"verify_signature": False})


@pytest.mark.parametrize("verifier", [None, "", "x" * 43, VERIFIER[:-1], VERIFIER + "ö", CHALLENGE])
async def test_a_code_with_a_challenge_wants_its_verifier(code_for, exchange, verifier):
    """RFC 7636, 4.6. A wrong verifier does not use up the code."""
    code = await code_for(**OIDC)
    error = await error_of(await exchange(code, code_verifier=verifier))
    assert (error["type"], error["code"]) == ("OAuthException", 1)
    assert (await exchange(code, code_verifier=VERIFIER)).status == 200


@pytest.mark.parametrize("changes", [{"scope": "email"}, {"code_challenge": None, "code_challenge_method": None}])
async def test_a_verifier_without_a_challenge_is_refused(code_for, exchange, changes):
    """The error has Facebook's words. Facebook ignores a challenge that came without `openid`."""
    code = await code_for(**OIDC | changes)
    error = await error_of(await exchange(code, code_verifier=VERIFIER))
    assert error["message"] == "code_verifier param is provided without a code_challenge in authorization request."
    assert (await exchange(code)).status == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "sha256"},
        {"code_challenge": "x" * 42},
        {"code_challenge": ""},
    ],
)
async def test_a_challenge_that_is_not_s256_gets_a_page(dialog, changes):
    """Facebook would treat it as `plain`, and no one would notice the mistake."""
    assert (await dialog(**{"person": "ada"} | OIDC | changes)).status == 400


async def test_faults_of_an_id_token_are_played_where_there_is_one(dialog, code_for, exchange):
    """The page offers these faults, and a request may ask for them, only together with `openid`."""
    assert "missing_id_token" in await (await dialog(**OIDC)).text()
    assert "missing_id_token" not in await (await dialog()).text()
    for fault in (*ID_TOKEN_FAULTS, "missing_id_token"):
        assert (await dialog(person="ada", fault=fault)).status == 400
        answer = await (await exchange(await code_for(**OIDC, fault=fault), code_verifier=VERIFIER)).json()
        assert ("id_token" in answer) is (fault != "missing_id_token")
