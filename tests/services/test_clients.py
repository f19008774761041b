"""Which app a request belongs to, and to which redirects its answers may go."""

import pytest

from nextarget.errors import InvalidRequest, RedirectRefused
from nextarget.model import Client, LogoFile
from nextarget.services.clients import Clients, needs_person

LOGO = LogoFile(b"<svg/>", "image/svg+xml", "a-digest")
FIRST = Client("first", ("https://app.example/callback", "http://127.0.0.1/callback"), logo=LOGO)
FURTHER = Client("further", ("app:/callback", "http://[::1]:8080", "http://localhost:9/x"), logo="https://x.example/y")


@pytest.fixture
def clients() -> Clients:
    return Clients([FIRST, FURTHER])


def refused(clients: Clients, client_id: str, redirect_uri: str) -> str | None:
    with pytest.raises(RedirectRefused) as caught:
        clients.check(client_id, redirect_uri)
    return caught.value.note


def test_a_request_without_client_id_belongs_to_the_first_app(clients: Clients) -> None:
    """With a client_id it belongs to the app of that id; there is no third possibility."""
    assert clients.named(None) == clients.first == FIRST
    assert (clients.named("first"), clients.named("further")) == (FIRST, FURTHER)
    with pytest.raises(InvalidRequest) as caught:
        clients.named("other")
    assert caught.value.detail == "The parameter 'client_id' names no app of this service."
    assert caught.value.note == "unknown client_id"


def test_apps_are_found_by_their_id(clients: Clients) -> None:
    """The first app is not a further one."""
    assert (clients.get("further"), clients.get("other")) == (FURTHER, None)
    assert ("first" in clients, "other" in clients) == (True, False)
    assert (clients.ids, clients.further_ids) == ({"first", "further"}, {"further"})
    assert (clients.further_id(FIRST), clients.further_id(FURTHER)) == (None, "further")


def test_a_logo_file_is_found_by_its_digest(clients: Clients) -> None:
    """A logo that another server has is not ours to serve."""
    assert clients.logo("a-digest") is LOGO
    assert clients.logo("other") is None
    assert clients.logo("https://x.example/y") is None


def test_an_app_gets_answers_only_at_its_own_redirects(clients: Clients) -> None:
    """The log gets the setting that does not list the redirect."""
    assert clients.check("first", "https://app.example/callback") == FIRST
    assert clients.check("further", "app:/callback") == FURTHER
    assert refused(clients, "first", "app:/callback") == "redirect_uri not listed in APP_REDIRECT_URIS"
    assert refused(clients, "further", "https://app.example/callback") == (
        "redirect_uri not listed in the redirect_uris of its app in APPS_FILE"
    )
    assert refused(clients, "other", "app:/callback") == "unknown client_id"


@pytest.mark.parametrize(
    ("client_id", "redirect_uri"),
    [
        ("first", "http://127.0.0.1/callback"),
        ("first", "http://127.0.0.1:1/callback"),
        ("first", "http://127.0.0.1:65535/callback"),
        ("further", "http://[::1]"),
        ("further", "http://[::1]:49152"),
        ("further", "http://localhost:10/x"),
    ],
)
def test_a_listed_loopback_redirect_matches_with_any_port(clients: Clients, client_id: str, redirect_uri: str) -> None:
    """RFC 8252, 7.3."""
    assert clients.check(client_id, redirect_uri)


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:65536/callback",
        "http://127.0.0.1:099/callback",
        "http://127.0.0.1:/callback",
        "http://127.0.0.1:80/other",
        "http://127.0.0.1:80/callback/",
        "http://127.0.0.1:80/Callback",
        "http://127.0.0.1:80",
        "http://127a0a0a1:80/callback",
        "http://127.0.0.2:80/callback",
        "http://localhost:80/callback",
        "HTTP://127.0.0.1:80/callback",
        "https://127.0.0.1:80/callback",
        "http://user@127.0.0.1:80/callback",
        "https://app.example:443/callback",
    ],
)
def test_nothing_but_the_port_of_a_loopback_redirect_may_differ(clients: Clients, redirect_uri: str) -> None:
    """RFC 9700, 4.1.3: everything else is compared byte for byte, and a port is a number from 1 to 65535."""
    assert refused(clients, "first", redirect_uri) == "redirect_uri not listed in APP_REDIRECT_URIS"


@pytest.mark.parametrize(
    ("redirect_uri", "needed"),
    [
        ("https://app.example/callback", False),
        ("http://127.0.0.1/callback", True),
        ("app:/callback", True),
        ("https:/app.example", True),
    ],
)
def test_only_an_https_redirect_may_finish_without_the_person(redirect_uri: str, needed: bool) -> None:
    """RFC 8252, 8.6: any app on the device can claim another redirect."""
    assert needs_person(redirect_uri) is needed
