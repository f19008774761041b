"""Which hosts are reached through the proxy, by curl's rules."""

import aiohttp
import pytest

from nextarget.providers.http.client import open_session
from nextarget.providers.http.proxy import Proxy

URL = "http://user:secret@proxy.example.org:3128"


@pytest.mark.parametrize(
    ("exempt", "host", "direct"),
    [
        ("", "graph.facebook.com", False),
        ("*", "graph.facebook.com", True),
        ("facebook.com", "graph.facebook.com", True),
        (".facebook.com", "graph.facebook.com", True),
        ("*.facebook.com", "graph.facebook.com", True),
        ("Graph.Facebook.COM", "graph.facebook.com", True),
        ("facebook.com.", "graph.facebook.com", True),
        ("facebook.com", "graph.facebook.com.", True),
        ("book.com", "graph.facebook.com", False),
        ("graph.facebook.com.example", "graph.facebook.com", False),
        ("com/8", "graph.facebook.com", False),
        (".", "graph.facebook.com", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3/8", "10.200.0.1", True),
        ("10.1.2.4", "10.1.2.3", False),
        ("1.2.3", "10.1.2.3", False),
        ("10.*", "10.1.2.3", False),
        ("<local>", "10.1.2.3", False),
        ("2001:db8::/32", "[2001:db8::1]", True),
        ("[2001:db8::1]", "[2001:db8::1]", True),
        ("2001:db8::/32", "10.1.2.3", False),
        *[("", local, True) for local in ("127.0.0.1", "127.8.8.8", "[::1]", "localhost", "LOCALHOST", "a.localhost")],
        *[("", far, False) for far in ("localhost.example", "0.0.0.0", "127.0.0.1.example")],
    ],
)
def test_who_is_asked_directly(exempt: str, host: str, direct: bool) -> None:
    """curl's rules for NO_PROXY hold. An entry that is not understood exempts no host. This machine never needs the
    proxy."""
    proxy = Proxy(URL, ("other.example", *exempt.split()))
    assert proxy.toward(f"https://{host}/token") == (None if direct else URL)
    assert proxy.toward(f"https://{host}:8443/token") == (None if direct else URL)


def test_a_proxy_does_not_show_its_password() -> None:
    """A printed proxy, in a log line or a traceback, does not show its password."""
    assert "secret" not in repr(Proxy(URL))


async def test_the_session_reads_no_proxy_from_the_environment() -> None:
    """Only the settings read the proxy."""
    async with open_session() as session:
        assert isinstance(session, aiohttp.ClientSession)
        assert not session.trust_env
