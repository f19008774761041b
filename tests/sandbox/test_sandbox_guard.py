"""Which requests the sandbox answers: requests by a name of this machine, and not by a page of another site."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nextarget.sandbox.guard import names_this_machine
from tests.running import Server, running
from tests.web.wire import exchange

SDK = "/sandbox/google/sdk?person=ada"
STAND_INS = (SDK, "/sandbox/google/jwks", "/sandbox/facebook/sdk?person=ada&kind=classic", "/sandbox/style.css")


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:8000", "127.8.9.10:80", "[::1]", "[::1]:8000"),
        *("127.0.0.1:9", "localhost:"),
    ],
)
def test_loopback_has_these_names_on_any_port(host: str) -> None:
    """The names are 127.0.0.0/8 and ::1 (RFC 6890). Any port is accepted: a forwarded port is another one, and a
    page cannot choose it."""
    assert names_this_machine(host)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "notlocalhost"),
        *("", ":8000", "0.0.0.0:8000", "192.168.1.5", "[::]", "[::1", "::1", "127.0.0.1:8000:8000", "evil@127.0.0.1"),
        *(
            "127.0.0.1:x",
            "127.0.0.1, evil.example",
            "127.0.0.1 ",
            "127.1",
            "2130706433",
            "0x7f.1",
            "\u0661\u0662\u0667.0.0.1",
        ),
    ],
)
def test_nothing_else_is_a_name_of_this_machine(host: str) -> None:
    """This includes names that another resolver or parser of addresses may read as this machine."""
    assert not names_this_machine(host)


@pytest.mark.parametrize(
    "path", ["/", "/health", "/auth/google/start", "/users/me", "/docs", "/openapi.json", "/nowhere", SDK]
)
async def test_every_route_is_closed_to_other_names(server: Server, path: str) -> None:
    """This includes the API: a page whose name resolves to this machine could begin logins and read tokens."""
    answer = await server.get(path, headers={"Host": f"evil.example:{server.port}"})
    assert (answer.status, answer.code) == (421, "misdirected_request")
    assert "127.0.0.1" in answer.json["detail"]
    assert (await server.get(path, headers={"Host": f"localhost:{server.port}"})).status != 421


async def test_every_method_is_closed_to_other_names(server: Server) -> None:
    """A refresh and a deletion by such a page are refused like a sign-in."""
    pair = (await server.sign_in()).json
    headers = {"Host": "evil.example", "Authorization": f"Bearer {pair['access_token']}"}
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    refused = await server.ask("POST", "/auth/token", data=form, headers=headers)
    assert (refused.status, refused.json["error"]) == (421, "invalid_request")
    assert (await server.ask("DELETE", "/users/me", headers=headers)).status == 421
    assert (await server.me(pair["access_token"])).status == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [("GET /health HTTP/1.0", 421), ("GET /health HTTP/1.0\r\nHost: 127.0.0.1\r\nHost: evil.example", 400)],
)
async def test_a_request_without_a_name_or_with_two_is_for_nobody(server: Server, head: str, status: int) -> None:
    """A request must have exactly one Host, as HTTP/1.1 demands."""
    answer = await exchange(server, f"{head}\r\n\r\n".encode())
    assert answer.status == status


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path, with_sandbox=False) as server:
        yield server


async def test_a_server_without_a_sandbox_answers_to_whatever_its_proxy_calls_it(plain: Server) -> None:
    """Without the sandbox, no one can sign in as any person. Which names the proxy forwards is the proxy's decision."""
    assert (await plain.get("/health", headers={"Host": "evil.example"})).status == 200


def fetched(site: str, mode: str, dest: str) -> dict[str, str]:
    return {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}


OTHER_SITES = [
    fetched("cross-site", "no-cors", "empty"),
    fetched("cross-site", "cors", "empty"),
    fetched("cross-site", "no-cors", "image"),
    fetched("cross-site", "no-cors", "script"),
    fetched("cross-site", "navigate", "iframe"),
    fetched("cross-site", "navigate", "object"),
    fetched("cross-site", "websocket", "websocket"),
    fetched("same-site", "no-cors", "empty"),
    fetched("same-site", "navigate", "iframe"),
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "unheard-of"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
]


@pytest.mark.parametrize("headers", OTHER_SITES, ids=lambda headers: "-".join(headers.values()))
async def test_no_page_of_another_site_asks_a_stand_in(server: Server, headers: dict[str, str]) -> None:
    """Such a page gets no answer with fetch, an image, a script or a frame. Another port is another origin."""
    for path in STAND_INS:
        answer = await server.get(path, headers=headers)
        assert (answer.status, answer.code) == (403, "cross_origin_refused"), path


async def test_no_page_of_another_site_posts_to_a_stand_in(server: Server) -> None:
    """A form of another site is refused even if it navigates the person's browser: only links are allowed."""
    posted = fetched("cross-site", "navigate", "document") | {"Origin": "http://evil.example"}
    for path in ("/sandbox/google/token", "/sandbox/facebook/oauth/access_token"):
        assert (await server.ask("POST", path, data={"code": "x"}, headers=posted)).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        fetched("none", "navigate", "document"),
        fetched("same-origin", "navigate", "document"),
        fetched("same-origin", "no-cors", "style"),
        fetched("same-site", "navigate", "document"),
        fetched("cross-site", "navigate", "document"),
    ],
    ids=lambda headers: "-".join(headers.values()),
)
async def test_programs_and_people_go_on_getting_there(server: Server, headers: dict[str, str]) -> None:
    """An app's link passes our server, so the browser sends it as a request from another site. A phone's app sends
    no such header."""
    begun = await server.begin()
    answer = await server.get(f"{begun['auth_url']}&person=ada", headers=headers)
    assert answer.status == 302
    assert (await server.get(answer.headers["Location"], headers=headers)).json["email"] == "ada@lovelace.example"
    assert (await server.get(SDK, headers=headers)).status == 200


async def test_a_browser_that_only_knows_origin_asks_from_our_own_pages(server: Server) -> None:
    """Requests with our own Origin are accepted, with any name of this machine."""
    for name in ("127.0.0.1", "localhost"):
        own = {"Host": f"{name}:{server.port}", "Origin": f"http://{name}:{server.port}"}
        assert (await server.get(SDK, headers=own)).status == 200


async def test_pages_of_other_sites_may_ask_the_api_as_before(server: Server) -> None:
    """CORS_ALLOW_ORIGINS decides what these pages may read, in the sandbox too."""
    for headers in OTHER_SITES:
        assert (await server.get("/auth/providers", headers=headers)).status == 200
