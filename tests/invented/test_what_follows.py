"""Everything that follows from an invented provider: its settings and their problems, documents, metrics, terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nextarget.sandbox.workspace import sandbox_values
from nextarget.settings import every_setting
from nextarget.settings.showing import shown
from nextarget.web.routes.documents import openapi_document
from tests.invented.test_signing_in import sign_in
from tests.running import Server, running
from tests.serving import SECRET
from tests.test_settings import problems

URL = "https://auth.example.org"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of a production server that turn the provider on."""
    with pytest.MonkeyPatch.context() as patch:
        from nextarget.registry import PROVIDERS
        from tests.invented import NAME, PARROT

        patch.setitem(PROVIDERS, NAME, PARROT)
        values = sandbox_values(tmp_path_factory.mktemp("parrot"), "127.0.0.1", 8000)
    kept = ("PARROT_CLIENT_ID", "PARROT_KEY_ID", "PARROT_PRIVATE_KEY")
    return {
        "JWT_SECRET_KEY": SECRET,
        "PUBLIC_URL": URL,
        "ENVIRONMENT": "production",
        "PARROT_REDIRECT_URI": f"{URL}/auth/parrot/callback",
        **{name: values[name] for name in kept},
    }


def test_settings_that_are_right_have_no_problem(tmp_path: Path, made_up: dict[str, str]) -> None:
    """The next tests prove something only if these settings are valid."""
    assert problems(tmp_path, made_up) == {}


@pytest.mark.parametrize(
    ("changes", "setting", "words"),
    [
        ({"PARROT_KEY_ID": ""}, "PARROT_KEY_ID", "Parrot is on when all of PARROT_CLIENT_ID"),
        ({"PARROT_PRIVATE_KEY": ""}, "PARROT_PRIVATE_KEY", "off when none is"),
        ({"PARROT_PRIVATE_KEY": "no key"}, "PARROT_PRIVATE_KEY", "console"),
        ({"PARROT_CLIENT_ID": "one,two"}, "PARROT_CLIENT_ID", "Name one."),
        ({"PARROT_REDIRECT_URI": "http://auth.example.org/auth/parrot/callback"}, "PARROT_REDIRECT_URI", "https"),
        ({"PARROT_REDIRECT_URI": "https://elsewhere.example/auth/parrot/callback"}, "PARROT_REDIRECT_URI", "same host"),
        ({"PARROT_REDIRECT_URI": f"{URL}/auth/google/callback"}, "PARROT_REDIRECT_URI", "/auth/parrot/callback"),
        ({"PARROT_TOKEN_ENDPOINT": "http://parrot.example/token"}, "PARROT_TOKEN_ENDPOINT", "Use https."),
        ({"PARROT_AUTHORIZATION_ENDPOINT": "https://p.example/?cage=1"}, "PARROT_AUTHORIZATION_ENDPOINT", "Leave"),
        ({"PARROT_AUTHORIZATION_ENDPOINT": "https://p.example/?state="}, "PARROT_AUTHORIZATION_ENDPOINT", "Leave"),
    ],
)
def test_what_is_wrong_is_told_with_a_remedy(
    tmp_path: Path, made_up: dict[str, str], changes: dict[str, str], setting: str, words: str
) -> None:
    """All checks of the other providers' settings apply to an added provider."""
    found = problems(tmp_path, made_up | changes)
    assert set(found) == {setting}
    assert words in found[setting].remedy


def test_plain_http_is_refused_in_production(tmp_path: Path, made_up: dict[str, str]) -> None:
    """The whole server uses plain http here, so that only the rule of production forbids it."""
    url = "http://127.0.0.1:8000"
    plain = made_up | {"PUBLIC_URL": url, "PARROT_REDIRECT_URI": f"{url}/auth/parrot/callback"}
    found = problems(tmp_path, plain)
    assert set(found) == {"PUBLIC_URL", "PARROT_REDIRECT_URI"}
    assert "production demands" in found["PARROT_REDIRECT_URI"].problem
    assert problems(tmp_path, plain | {"ENVIRONMENT": "development"}) == {}


def test_the_private_key_may_come_from_a_file(tmp_path: Path, made_up: dict[str, str]) -> None:
    """A setting with the type of a secret may come from a file."""
    (tmp_path / "key.pem").write_text(made_up["PARROT_PRIVATE_KEY"])
    from_file = {name: text for name, text in made_up.items() if name != "PARROT_PRIVATE_KEY"}
    assert problems(tmp_path, from_file | {"PARROT_PRIVATE_KEY_FILE": "key.pem"}) == {}


def test_secrets_are_masked_and_endpoints_shown(made_up: dict[str, str]) -> None:
    """This follows from the types of the settings."""
    assert every_setting()["PARROT_PRIVATE_KEY"].secret
    assert shown("PARROT_PRIVATE_KEY", made_up["PARROT_PRIVATE_KEY"]).startswith("*** (")
    url = "https://parrot.example/authorize?plumage=blue&token=x"
    assert shown("PARROT_AUTHORIZATION_ENDPOINT", url) == "https://parrot.example/authorize?plumage=blue&***"
    assert shown("PARROT_ISSUER", "https://u:p@parrot.example/x") == "https://***@parrot.example/x"


def test_the_openapi_document_lists_the_provider_and_its_form() -> None:
    """Every enum has the provider, and the document has the posted callback."""
    document = json.loads(openapi_document())
    schemas = document["components"]["schemas"]
    assert schemas["ProviderName"]["enum"] == ["google", "facebook", "apple", "parrot"]
    assert schemas["ChosenProvider"]["enum"] == ["google", "facebook", "apple", "parrot", ""]
    assert document["info"]["summary"] == "Sign-in with Google, Facebook, Apple and Parrot for a mobile app."
    posted = document["paths"]["/auth/{provider}/callback"]["post"]
    assert posted["operationId"] == "postedCallback"
    assert [parameter["schema"]["enum"] for parameter in posted["parameters"]] == [["apple", "parrot"]]


async def test_the_server_lists_and_counts_the_provider(parrot_server: Server) -> None:
    """`/auth/providers` and the metrics have the provider."""
    listed = (await parrot_server.get("/auth/providers")).json["providers"]
    assert listed[-1] == {"name": "parrot", "configured": True, "answering": True}
    await sign_in(parrot_server)
    metrics = (await parrot_server.get("/metrics")).text
    assert 'nextarget_logins_total{outcome="succeeded",provider="parrot"} ' in metrics
    assert 'provider="parrot"' in next(line for line in metrics.splitlines() if "breaker" in line and "parrot" in line)


async def test_a_provider_that_is_off_is_left_alone(tmp_path: Path) -> None:
    """No one can sign in with it, and the other providers work."""
    off = dict.fromkeys(("PARROT_CLIENT_ID", "PARROT_KEY_ID", "PARROT_PRIVATE_KEY", "PARROT_REDIRECT_URI"), "")
    async with running(tmp_path, **off) as server:
        assert (await server.get("/auth/parrot/start")).code == "provider_not_configured"
        assert (await server.sign_in("google")).status == 200


def terminal(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a process, with the provider registered first."""
    program = (
        "import sys, tests.invented.registered; from nextarget.cli.main import main; "
        "sys.argv = ['nextarget', *sys.argv[1:]]; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_check_config_shows_the_settings_masked(tmp_path: Path, made_up: dict[str, str]) -> None:
    """The output has every setting of the provider, and whether the provider is on."""
    done = terminal(tmp_path, "check-config", **made_up)
    assert done.returncode == 0, done.stderr
    assert f"PARROT_CLIENT_ID\t{made_up['PARROT_CLIENT_ID']}\tenvironment" in done.stdout
    assert "PARROT_PRIVATE_KEY\t*** (" in done.stdout
    assert "PARROT_ISSUER\thttps://parrot.example\tdefault" in done.stdout
    assert "Parrot: on." in done.stderr
    half = terminal(tmp_path, "check-config", **made_up | {"PARROT_KEY_ID": ""})
    assert half.returncode == 78
    assert "Parrot: incomplete." in half.stderr


@pytest.mark.slow
def test_the_terminal_completes_the_name_of_the_provider(tmp_path: Path) -> None:
    """The terminal also accepts the name, and refuses an unknown one."""
    assert terminal(tmp_path, "--complete", "bash", "list-users", "--provider", "p").stdout == "parrot\n"
    made = terminal(tmp_path, "init-db", "--sandbox")
    assert made.returncode == 0, made.stderr
    person = ("--email", "ada@example.org", "--provider", "parrot")
    token = terminal(tmp_path, "issue-token", "--sandbox", *person, "--create")
    assert (token.returncode, token.stdout.count(".")) == (0, 2), token.stderr
    refused = terminal(tmp_path, "list-users", "--provider", "pigeon")
    assert refused.returncode == 2
    assert "'pigeon' is not one of 'google', 'facebook', 'apple', 'parrot'" in refused.stderr
