"""The file of invented secrets, and the settings that follow from it."""

import json
import os
import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from nextarget.errors import ConfigurationError
from nextarget.sandbox.workspace import SECRETS_FILE, sandbox_config, sandbox_values


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("sandbox")
    sandbox_values(directory, "127.0.0.1", 8000)
    return directory


@pytest.fixture
def copy(made, tmp_path) -> Path:
    """A copy of the file, which a test may damage."""
    path = tmp_path / SECRETS_FILE
    path.write_bytes((made / SECRETS_FILE).read_bytes())
    path.chmod(0o600)
    return path


def test_the_settings_point_the_providers_at_the_sandbox(made):
    """Every endpoint is below PUBLIC_URL, and the sandbox has its own database."""
    values = sandbox_values(made, "127.0.0.1", 8000)
    url = "http://127.0.0.1:8000"
    assert values["ENVIRONMENT"] == "development"
    assert values["PUBLIC_URL"] == url
    assert values["DATABASE_URL"] == f"sqlite:///{made}/nextarget-sandbox.db"
    assert len(values["JWT_SECRET_KEY"]) >= 64
    assert values["GOOGLE_REDIRECT_URI"] == f"{url}/auth/google/callback"
    assert values["GOOGLE_ISSUER"] == f"{url}/sandbox/google"
    assert values["GOOGLE_AUTHORIZATION_ENDPOINT"] == f"{url}/sandbox/google/authorize"
    assert values["GOOGLE_TOKEN_ENDPOINT"] == f"{url}/sandbox/google/token"
    assert values["GOOGLE_JWKS_URI"] == f"{url}/sandbox/google/jwks"
    assert values["FACEBOOK_CLIENT_ID"].isdigit()
    assert values["FACEBOOK_REDIRECT_URI"] == f"{url}/auth/facebook/callback"
    assert values["FACEBOOK_GRAPH_URL"] == f"{url}/sandbox/facebook"
    assert values["FACEBOOK_AUTHORIZATION_ENDPOINT"] == f"{url}/sandbox/facebook/dialog/oauth"
    assert values["FACEBOOK_GRAPH_VERSION"] == "v26.0"
    assert values["FACEBOOK_JWKS_URI"] == f"{url}/sandbox/facebook/limited/jwks"
    assert values["GOOGLE_CLIENT_IDS"].endswith(".apps.googleusercontent.com")
    assert values["GOOGLE_CLIENT_IDS"] != values["GOOGLE_CLIENT_ID"]
    assert values["APP_REDIRECT_URIS"] == (
        "nextarget://callback,http://127.0.0.1/callback,http://[::1]/callback,https://app.example/callback"
    )


async def test_every_endpoint_in_the_settings_is_a_route(made, aiohttp_client):
    """The sandbox serves every endpoint that the settings name."""
    from aiohttp import web

    from nextarget.sandbox.app import attach

    app = web.Application()
    attach(app, sandbox_config(made, "127.0.0.1", 8000))
    client = await aiohttp_client(app)
    values = sandbox_values(made, "127.0.0.1", 8000)
    for provider in ("GOOGLE", "FACEBOOK"):
        lacks_parameters = urlsplit(values[f"{provider}_AUTHORIZATION_ENDPOINT"]).path
        assert (await client.get(lacks_parameters)).status == 400, provider
        assert (await client.get(urlsplit(values[f"{provider}_JWKS_URI"]).path)).status == 200, provider
    assert (await client.post(urlsplit(values["GOOGLE_TOKEN_ENDPOINT"]).path)).status == 400


def test_both_halves_hold_the_same_secrets(made):
    """The server's client is the client that is registered at the stand-ins."""
    values, config = sandbox_values(made, "::1", 80), sandbox_config(made, "::1", 80)
    assert config.clients["google"].client_id == values["GOOGLE_CLIENT_ID"]
    assert config.clients["google"].client_secret.reveal() == values["GOOGLE_CLIENT_SECRET"]
    assert config.clients["google"].redirect_uri == values["GOOGLE_REDIRECT_URI"]
    assert ",".join(config.clients["google"].client_ids) == values["GOOGLE_CLIENT_IDS"]
    assert config.clients["google"].issuer == values["GOOGLE_ISSUER"]
    assert config.clients["facebook"].client_id == values["FACEBOOK_CLIENT_ID"]
    assert config.clients["facebook"].client_secret.reveal() == values["FACEBOOK_CLIENT_SECRET"]
    assert config.clients["facebook"].redirect_uri == values["FACEBOOK_REDIRECT_URI"]
    assert values["GOOGLE_CLIENT_SECRET"] not in repr(config)


def test_secrets_are_made_once_whatever_the_address(made):
    """Tokens and users are still valid after a restart on another port."""
    first, second = sandbox_values(made, "127.0.0.1", 8000), sandbox_values(made, "::1", 9000)
    assert second["PUBLIC_URL"] == "http://[::1]:9000"
    assert first["JWT_SECRET_KEY"] == second["JWT_SECRET_KEY"]
    assert first["GOOGLE_CLIENT_ID"] == second["GOOGLE_CLIENT_ID"]


def test_a_relative_directory_gives_an_absolute_database(made, monkeypatch):
    """A command in another folder must find the same database."""
    monkeypatch.chdir(made)
    assert sandbox_values(Path(), "localhost", 1)["DATABASE_URL"] == f"sqlite:///{made}/nextarget-sandbox.db"


def test_the_file_is_for_its_owner_alone_and_nothing_else_is_left(made):
    """The file has mode 0600, and the temporary file is removed."""
    assert stat.S_IMODE((made / SECRETS_FILE).stat().st_mode) == 0o600
    assert [path.name for path in made.iterdir()] == [SECRETS_FILE]


def test_a_file_that_others_can_read_is_closed_again(copy):
    """A copy or a wrong umask may have made the file readable."""
    copy.chmod(0o644)
    sandbox_values(copy.parent, "127.0.0.1", 8000)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


@pytest.mark.slow
def test_processes_that_race_agree_on_one_file(tmp_path):
    """The first process writes the file, and the other processes use its secrets."""
    with ProcessPoolExecutor(6, mp_context=get_context("spawn")) as pool:
        answers = [pool.submit(sandbox_values, tmp_path, "127.0.0.1", 8000) for _ in range(6)]
        secrets = {answer.result()["JWT_SECRET_KEY"] for answer in answers}
    assert len(secrets) == 1
    assert [path.name for path in tmp_path.iterdir()] == [SECRETS_FILE]


def test_whoever_comes_second_reads_the_winners_file(made, tmp_path, monkeypatch):
    """This also holds if the file appears between the check and the write."""
    winner = (made / SECRETS_FILE).read_bytes()
    real = Path.hardlink_to

    def beaten(self, target):
        self.write_bytes(winner)
        real(self, target)

    monkeypatch.setattr(Path, "hardlink_to", beaten)
    kept = sandbox_values(tmp_path, "127.0.0.1", 8000)
    assert kept["JWT_SECRET_KEY"] == json.loads(winner)["jwt_secret_key"]


def _without_key(text: bytes) -> bytes:
    kept = json.loads(text)
    del kept["google_private_key"]
    return json.dumps(kept).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[: len(text) // 2],
        lambda text: b"[]",
        lambda text: b"[" * 60_000,
        lambda text: b"\xff\xfe",
        lambda text: text.replace(b"MII", b"XXX"),
        lambda text: text.replace(b'"facebook_client_id": "', b'"facebook_client_id": "x'),
        _without_key,
        lambda text: text.replace(b'"google_app_client_id": "', b'"google_app_client_id": "%'),
    ],
    ids=["empty", "cut", "array", "nested", "binary", "key", "shape", "missing", "later-shape"],
)
def test_a_damaged_file_is_reported_with_what_to_do(copy, damage):
    """The problem says to delete the file. The server never overwrites it by itself."""
    copy.write_bytes(damage(copy.read_bytes()))
    before = copy.read_bytes()
    with pytest.raises(ConfigurationError) as caught:
        sandbox_values(copy.parent, "127.0.0.1", 8000)
    [problem] = caught.value.problems
    assert str(copy) in problem.problem
    assert "Delete it" in problem.remedy
    assert copy.read_bytes() == before


def _of_the_first_release(path: Path) -> dict[str, str]:
    """Remove the values that later releases added. Return the rest of the file."""
    kept = json.loads(path.read_bytes())
    del kept["facebook_private_key"], kept["google_app_client_id"]
    path.write_text(json.dumps(kept), encoding="utf-8")
    return kept


def test_a_file_of_an_older_release_is_completed_and_keeps_what_it_had(copy):
    """A new JWT secret would sign everyone out, so the old values stay. The new values are written once."""
    had = _of_the_first_release(copy)
    values = sandbox_values(copy.parent, "127.0.0.1", 8000)
    completed = json.loads(copy.read_bytes())
    assert had.items() <= completed.items()
    assert values["JWT_SECRET_KEY"] == had["jwt_secret_key"]
    assert values["GOOGLE_CLIENT_IDS"] == completed["google_app_client_id"]
    before = copy.read_bytes()
    key = sandbox_config(copy.parent, "127.0.0.1", 8000).clients["facebook"].private_key
    assert copy.read_bytes() == before
    assert (
        key.private_numbers() != sandbox_config(copy.parent, "::1", 1).clients["google"].private_key.private_numbers()
    )
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [path.name for path in copy.parent.iterdir()] == [SECRETS_FILE]


@pytest.mark.slow
def test_processes_that_complete_a_file_at_once_agree(copy):
    """The first process adds the values, and the other processes use them."""
    _of_the_first_release(copy)
    with ProcessPoolExecutor(6, mp_context=get_context("spawn")) as pool:
        answers = [pool.submit(sandbox_values, copy.parent, "127.0.0.1", 8000) for _ in range(6)]
        made = {answer.result()["GOOGLE_CLIENT_IDS"] for answer in answers}
    assert made == {json.loads(copy.read_bytes())["google_app_client_id"]}


def test_completing_a_linked_file_changes_the_file_and_keeps_the_link(copy, tmp_path_factory):
    """An operator may keep the secrets in another folder."""
    _of_the_first_release(copy)
    link = tmp_path_factory.mktemp("linked") / SECRETS_FILE
    link.symlink_to(copy)
    values = sandbox_values(link.parent, "127.0.0.1", 8000)
    assert link.is_symlink()
    assert json.loads(copy.read_bytes())["google_app_client_id"] == values["GOOGLE_CLIENT_IDS"]


def test_a_place_where_nothing_can_be_written_is_reported(tmp_path):
    """The folder is missing, or the name is taken by a folder."""
    with pytest.raises(ConfigurationError, match="no such file"):
        sandbox_values(tmp_path / "missing", "127.0.0.1", 8000)
    (tmp_path / SECRETS_FILE).mkdir()
    with pytest.raises(ConfigurationError, match="is a directory"):
        sandbox_values(tmp_path, "127.0.0.1", 8000)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_reported(tmp_path):
    """The error is one sentence, not a traceback."""
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="permission denied"):
        sandbox_values(tmp_path, "127.0.0.1", 8000)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LOCALHOST"])
def test_loopback_hosts_are_accepted(made, host):
    """RFC 6890: 127.0.0.0/8 and ::1."""
    assert urlsplit(sandbox_values(made, host, 8000)["PUBLIC_URL"]).hostname == host.lower()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "nextarget.example", "", "127.1", "::1%lo"])
def test_any_other_host_is_refused(made, host):
    """In the sandbox anyone can sign in as any person, so no other machine may reach it."""
    for function in (sandbox_values, sandbox_config):
        with pytest.raises(ConfigurationError) as caught:
            function(made, host, 8000)
        assert [problem.setting for problem in caught.value.problems] == ["HOST"]


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_not_known_is_refused(made, port):
    """PUBLIC_URL must have the port of the stand-ins."""
    with pytest.raises(ConfigurationError) as caught:
        sandbox_values(made, "127.0.0.1", port)
    assert [problem.setting for problem in caught.value.problems] == ["PORT"]
