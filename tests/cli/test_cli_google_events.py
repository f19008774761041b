"""`google-events`: has Google send its security events to this server, before a stand-in of Google's RISC API."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from nextarget.providers.google_events import EVENT_TYPES
from tests.cli.conftest import Result
from tests.cli.risc_api import RiscApi, error, serving_risc_api, write_service_account

URL = "https://auth.example.org/auth/google/events"
Run = Callable[..., Result]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[RiscApi]:
    """The stand-in, which the settings name, and the key of a service account in the file `key.json`."""
    write_service_account(folder / "key.json")
    with serving_risc_api() as api:
        monkeypatch.setenv("GOOGLE_RISC_API_URL", api.url)
        monkeypatch.setenv("PUBLIC_URL", "https://auth.example.org")
        yield api


def test_it_registers_the_receiver_and_asks_for_a_verification(run: Run, api: RiscApi) -> None:
    """Google gets our URL and all event types of its guide, and sends an event with the text that is printed."""
    result = run("google-events", "key.json")
    assert result.status == 0, result.err
    assert api.stream is not None
    assert api.stream["delivery"]["url"] == URL
    assert set(api.stream["events_requested"]) == set(EVENT_TYPES)
    assert api.states == [result.out.strip()]
    assert URL in result.err
    assert "security_event" in result.err
    again = json.loads(run("google-events", "key.json", "--json").out)
    assert again == {"url": URL, "state": api.states[1]}
    assert api.states[0] != api.states[1]


def test_it_resumes_a_stream_that_was_stopped(run: Run, api: RiscApi) -> None:
    """A stream that is disabled sends nothing, wherever it leads."""
    assert run("google-events", "key.json").status == 0
    api.status = "disabled"
    assert run("google-events", "key.json").status == 0
    assert api.status == "enabled"


def test_status_shows_what_is_registered_and_changes_nothing(run: Run, api: RiscApi) -> None:
    """A line for every fact, or JSON."""
    assert run("google-events", "key.json").status == 0
    api.status = "disabled"
    lines = run("google-events", "key.json", "--status").out.splitlines()
    assert lines[:2] == [f"url\t{URL}", "status\tdisabled"]
    assert lines[2:] == [f"event\t{event_type}" for event_type in EVENT_TYPES]
    shown = json.loads(run("google-events", "key.json", "--status", "--json").out)
    assert shown == {"url": URL, "status": "disabled", "events": list(EVENT_TYPES)}
    assert (api.status, len(api.states)) == ("disabled", 1)


def test_verify_only_asks_for_an_event(run: Run, api: RiscApi) -> None:
    """It registers nothing, so nothing can be asked for before."""
    refused = run("google-events", "key.json", "--verify")
    assert (refused.status, api.stream) == (1, None)
    assert "Nothing is registered" in refused.err
    assert run("google-events", "key.json").status == 0
    assert run("google-events", "key.json", "--verify").out.strip() == api.states[1]


def test_both_options_together_are_not_understood(run: Run, api: RiscApi) -> None:
    """They contradict each other."""
    assert run("google-events", "key.json", "--verify", "--status").status == 2
    assert api.states == []


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (error(403, "The delivery endpoint must be an HTTPS URL."), "PUBLIC_URL"),
        (
            error(403, "Existing stream configuration does not have spec-compliant delivery method for RISC."),
            "Firebase",
        ),
        (error(403, "Project could not be found."), "GOOGLE_CLIENT_ID"),
        (error(403, "Service account needs permission to access your RISC configuration"), "roles/riscconfigs.admin"),
        (error(403, "Stream management APIs should only be called by a service account."), "JSON key"),
        (
            error(403, "The delivery endpoint does not belong to any of your project's domains."),
            "Authorized domains",
        ),
        (error(403, "To use this API your project must have at least one OAuth client configured."), "OAuth client"),
        (
            error(403, "RISC API has not been used in project 12 before or it is disabled. Enable it by visiting …"),
            "console.developers.google.com/apis/library/risc.googleapis.com",
        ),
        (error(403, "No.", details=[{"reason": "SERVICE_DISABLED"}]), "is not enabled"),
        (error(404, "Project has no existing RISC configuration, cannot update status."), "Nothing is registered"),
        (error(401, "Unauthorized.", "UNAUTHENTICATED"), "the clock of this machine"),
        (error(400, "Stream configuration must contain url field.\x1b[31m"), "lists its errors"),
        ((403, {"error": "access_denied"}), "lists its errors"),
    ],
)
def test_googles_errors_are_told_with_what_to_do(
    run: Run, api: RiscApi, refusal: tuple[int, object], said: str
) -> None:
    """The errors of Google's guide, and that of an API that is not enabled."""
    api.refusal = refusal
    for options in ([], ["--status"], ["--verify"]):
        result = run("google-events", "key.json", *options)
        assert (result.status, result.out) == (1, "")
        assert said in result.err
        assert f"Reason: Google answered {refusal[0]}: " in result.err
        assert "\x1b" not in result.err


@pytest.mark.parametrize("refusal", [(503, {}), (200, b"<html>"), (429, {}), (200, b"[]")])
def test_an_api_that_does_not_answer_is_told(run: Run, api: RiscApi, refusal: tuple[int, object]) -> None:
    """Nothing is printed as if it had worked."""
    api.refusal = refusal
    result = run("google-events", "key.json")
    assert (result.status, result.out) == (1, "")
    assert "Reason: google api: " in result.err


def test_an_api_out_of_reach_is_told(run: Run, api: RiscApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without network."""
    monkeypatch.setenv("GOOGLE_RISC_API_URL", "http://127.0.0.1:1")
    result = run("google-events", "key.json", "--status")
    assert (result.status, result.out) == (1, "")
    assert "cannot be reached" in result.err


def test_the_key_of_another_account_is_refused(run: Run, api: RiscApi, folder: Path) -> None:
    """A key that was deleted at Google verifies nothing any more."""
    write_service_account(folder / "other.json", generate_private_key(65537, 2048))
    result = run("google-events", "other.json")
    assert (result.status, api.stream) == (1, None)
    assert "key was deleted" in result.err


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '"a"', "{", "[" * 100_000, '{"client_email": "a", "token_uri": "b", "private_key": "c"}', "\0"],
)
def test_a_file_that_is_no_key_is_told(run: Run, api: RiscApi, folder: Path, content: str) -> None:
    """Without a traceback, and without the content."""
    (folder / "wrong.json").write_text(content, encoding="utf-8")
    result = run("google-events", "wrong.json")
    assert (result.status, api.stream) == (1, None)
    assert "wrong.json is not the key of a service account" in result.err


def test_a_file_that_is_not_utf_8_is_told(run: Run, api: RiscApi, folder: Path) -> None:
    """A key of the type P12, for example."""
    (folder / "key.p12").write_bytes(b"\x30\x82\xff\xfe")
    result = run("google-events", "key.p12")
    assert (result.status, api.stream) == (1, None)
    assert "add a key of the type JSON" in result.err


def test_a_file_that_is_not_there_is_told(run: Run, api: RiscApi) -> None:
    """With its path."""
    result = run("google-events", "absent.json")
    assert (result.status, api.stream) == (1, None)
    assert "absent.json cannot be read" in result.err


def test_a_server_without_https_is_not_registered(run: Run, api: RiscApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google would refuse it. The error names the setting."""
    monkeypatch.setenv("PUBLIC_URL", "http://127.0.0.1:8000")
    result = run("google-events", "key.json")
    assert (result.status, api.stream) == (1, None)
    assert "PUBLIC_URL" in result.err
