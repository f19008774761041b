"""The command issue-token."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nextarget.model import Provider
from nextarget.storage.rows import signing_keys
from nextarget.tokens import refresh
from nextarget.tokens.keyring import load_private_key


def _claims(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def test_the_token_is_printed_alone_and_is_accepted(run, runtime, admit):
    """`TOKEN=$(nextarget issue-token ...)` gives a token that the server accepts, of a valid session."""
    user = admit("ada@example.org")
    result = run("issue-token", "--email", "ada@example.org", "--provider", "google")
    assert (result.status, result.err) == (0, "")
    assert result.out.count("\n") == 1
    claims = runtime.access_tokens.verify(result.out.strip(), runtime.clock())
    assert claims.user_id == user.id
    assert claims.expires_at - claims.issued_at == 3600


def test_the_private_key_signs_it_as_it_does_on_the_server(run, runtime, admit, folder, monkeypatch):
    """Only a server records the first use of a key; a token of the terminal does not."""
    user = admit("ada@example.org")
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    monkeypatch.setenv("JWT_PRIVATE_KEY_FILE", "key.pem")
    token = run("issue-token", "--user-id", user.id).out.strip()
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    assert (header["alg"], header["kid"]) == ("EdDSA", load_private_key(pem, None).id)
    assert runtime.database.read_now(signing_keys.first_uses) == {}


@pytest.mark.parametrize(("ttl", "seconds"), [("1s", 1), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400)])
def test_ttl_is_how_long_the_token_lives(run, admit, ttl, seconds):
    """The unit may be seconds, minutes, hours or days."""
    issued = json.loads(run("issue-token", "--user-id", admit("a@example.org").id, "--ttl", ttl, "--json").out)
    claims = _claims(issued["access_token"])
    assert issued["expires_in"] == claims["exp"] - claims["iat"] == seconds


@pytest.mark.parametrize("ttl", ["0s", "25h", "2d", "15", "-1m", "1.5h", "", "99999999999s", "\u0661m"])
def test_a_ttl_that_is_none_or_out_of_bounds_is_a_usage_error(run, ttl):
    """The limits are one second and one day."""
    result = run("issue-token", "--user-id", "x", f"--ttl={ttl}")
    assert (result.status, result.out) == (2, "")
    assert "--ttl" in result.err


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--email", "ada@example.org"],
        ["--provider", "google"],
        ["--create"],
        ["--email", "ada@example.org", "--provider", "google", "--user-id", "x"],
        ["--user-id", "x", "--create"],
        ["--user-id", "x", "--provider", "google"],
        ["--email", "no address", "--provider", "google", "--create"],
        ["--email", f"{'a' * 250}@example.org", "--provider", "google", "--create"],
        ["--email", "ada@example.org", "--provider", "myspace"],
    ],
)
def test_options_that_do_not_name_one_user_are_a_usage_error(run, options):
    """The options name an email with its provider, or an id. Only a user with an email can be created."""
    result = run("issue-token", *options)
    assert (result.status, result.out) == (2, "")


def test_create_makes_a_test_user_once(run, runtime):
    """With the same email again, the same user gets another session."""
    options = ["issue-token", "--email", "ada@example.org", "--provider", "facebook", "--create", "--json"]
    first, second = json.loads(run(*options).out), json.loads(run(*options).out)
    assert first["user_id"] == second["user_id"]
    assert first["session_id"] != second["session_id"]
    assert (first["email"], first["provider"], first["token_type"]) == ("ada@example.org", "facebook", "bearer")


def test_create_makes_nobody_beside_a_user_with_this_email_in_whatever_case(run, admit):
    """A second account would make the email ambiguous for other commands. If several users have the email, the
    command refuses."""
    user = admit("ada@example.org")
    for email in ("ada@example.org", "Ada@Example.org"):
        issued = json.loads(run("issue-token", "--email", email, "--provider", "google", "--create", "--json").out)
        assert issued["user_id"] == user.id
    admit("ADA@example.org", subject="another")
    result = run("issue-token", "--email", "ada@example.org", "--provider", "google", "--create")
    assert (result.status, result.out) == (1, "")
    assert user.id in result.err
    assert len(run("list-users").out.splitlines()) == 2


def test_json_is_the_whole_token_response_and_the_session(run, runtime, admit):
    """The output is the token endpoint's answer with a refresh token. Without --json it is only the access token."""
    user = admit("ada@example.org")
    issued = json.loads(run("issue-token", "--user-id", user.id, "--ttl", "5m", "--json").out)
    claims = runtime.access_tokens.verify(issued["access_token"], runtime.clock())
    token = refresh.read(runtime.keyring, issued["refresh_token"])
    assert issued == {
        "access_token": issued["access_token"],
        "token_type": "bearer",
        "expires_in": 300,
        "refresh_token": issued["refresh_token"],
        "email": user.email,
        "email_verified": True,
        "provider": "google",
        "user_id": user.id,
        "scope": "email",
        "session_id": claims.session_id,
    }
    assert token == refresh.RefreshToken(claims.session_id, 1)
    assert issued["refresh_token"] not in run("issue-token", "--user-id", user.id).out


def test_a_token_of_the_terminal_belongs_to_a_labelled_and_recorded_session(run, admit):
    """The person and the audit record see that the session came from the terminal."""
    user = admit("ada@example.org")
    issued = json.loads(run("issue-token", "--user-id", user.id, "--json").out)
    shown = json.loads(run("show-user", user.id, "--json").out)
    assert [(session["id"], session["label"]) for session in shown["sessions"]] == [(issued["session_id"], "terminal")]
    (event,) = shown["events"]
    assert (event["event"], event["session_id"], event["detail"]) == ("token_issued", issued["session_id"], "terminal")


def test_without_create_an_unknown_email_is_refused_and_nobody_is_made(run, admit):
    """The error says how to create a test user. The same email at another provider is another user."""
    admit("ada@example.org")
    result = run("issue-token", "--email", "ada@example.org", "--provider", "facebook")
    assert (result.status, result.out) == (1, "")
    assert "--create" in result.err
    assert len(run("list-users").out.splitlines()) == 1


def test_an_email_of_several_users_of_a_provider_is_refused_with_their_ids(run, admit):
    """A provider can give an email to another person, so an email is not unique."""
    both = [admit("ada@example.org"), admit("ada@example.org")]
    admit("ada@example.org", Provider("facebook"))
    result = run("issue-token", "--email", "ada@example.org", "--provider", "google")
    assert result.status == 1
    assert all(user.id in result.err for user in both)


def test_an_email_in_another_case_gets_nobody_elses_token(run, admit):
    """If emails differ only in case, both users are named and no token is printed."""
    both = [admit("ada@example.org"), admit("Ada@example.org")]
    for email in ("ada@example.org", "Ada@example.org"):
        result = run("issue-token", "--email", email, "--provider", "google")
        assert (result.status, result.out) == (1, "")
        assert all(f"  {user.id} (google) {user.email}\n" in result.err for user in both)


def test_an_id_is_no_email(run, admit):
    """--email accepts only an email, even if the value is a user's id."""
    user = admit("ada@example.org")
    result = run("issue-token", "--email", user.id, "--provider", "google")
    assert (result.status, result.out) == (1, "")


def test_a_deactivated_user_gets_no_token(run, admit):
    """A deactivated user gets no session either."""
    user = admit("ada@example.org")
    run("deactivate-user", user.id)
    result = run("issue-token", "--user-id", user.id)
    assert (result.status, result.out) == (1, "")
    assert "deactivated" in result.err
    assert json.loads(run("show-user", user.id, "--json").out)["sessions"] == []


def test_production_needs_to_be_allowed(run, admit, monkeypatch):
    """Anyone who holds this token can use it, so in production the operator must confirm it."""
    user = admit("ada@example.org")
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("PUBLIC_URL", "https://auth.example.org")
    refused = run("issue-token", "--user-id", user.id)
    assert (refused.status, refused.out) == (1, "")
    assert "--allow-production" in refused.err
    assert run("issue-token", "--user-id", user.id, "--allow-production").status == 0
