"""The client's address as trusted proxies report it: in `X-Forwarded-For`, or in `Forwarded` (RFC 7239)."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from nextarget.services.quotas import Share, Verdict
from nextarget.settings import ProxyHeader
from nextarget.web import rate_limits
from nextarget.web.rate_limits import RateLimits
from nextarget.web.requests import client_address as module
from nextarget.web.requests.client_address import client_address, client_networks
from tests.running import Server, running
from tests.web.wire import exchange

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
HEADERS: tuple[ProxyHeader, ...] = ("X-Forwarded-For", "Forwarded")


def asked_by(remote: str, *lines: str, header: ProxyHeader = "X-Forwarded-For") -> web.BaseRequest:
    request = make_mocked_request("GET", "/", headers=[(header, line) for line in lines])
    return request.clone(remote=remote)


def client_of(header: ProxyHeader, *lines: str) -> str:
    """The client's address in a request from the proxy 10.0.0.1."""
    return str(client_address(asked_by("10.0.0.1", *lines, header=header), TRUSTED, header))


@pytest.mark.parametrize(
    ("remote", "forwarded", "networks"),
    [
        ("198.51.100.7", "203.0.113.1", ["198.51.100.7"]),
        ("10.0.0.1", "203.0.113.1", ["203.0.113.1"]),
        ("10.0.0.1", "203.0.113.66, 203.0.113.1", ["203.0.113.1"]),
        ("10.0.0.1", "203.0.113.1, 10.9.9.9", ["203.0.113.1"]),
        ("10.0.0.1", "garbage", ["10.0.0.1"]),
        ("10.0.0.1", "203.0.113.1, garbage", ["10.0.0.1"]),
        ("10.0.0.1", "", ["10.0.0.1"]),
        ("2001:db8:1:2:3:4:5:6", "", ["2001:db8:1:2::/64", "2001:db8:1::/48"]),
        ("fd00::1", "2001:db8:1:2:9::1", ["2001:db8:1:2::/64", "2001:db8:1::/48"]),
        ("::ffff:198.51.100.7", "", ["198.51.100.7"]),
        ("", "", ["unknown"]),
    ],
)
def test_the_client_is_the_first_hop_that_no_trusted_proxy_vouches_for(
    remote: str, forwarded: str, networks: list[str]
) -> None:
    """The header is read from the right. An IPv6 client counts by its /64 and by its /48."""
    assert client_networks(asked_by(remote, forwarded), TRUSTED) == tuple(networks)


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("203.0.113.7:50412", "203.0.113.7"),
        ("[2001:db8::1]:50412", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[::ffff:203.0.113.7]:50412", "203.0.113.7"),
        ("198.51.100.9:1, 203.0.113.7:2, 10.9.9.9:3", "203.0.113.7"),
        ("203.0.113.7:2, [fd00::9]:3", "203.0.113.7"),
        ("203.0.113.7:", "10.0.0.1"),
        ("203.0.113.7:x", "10.0.0.1"),
        ("203.0.113.7:123456", "10.0.0.1"),
        ("203.0.113.7:80:80", "10.0.0.1"),
        ("203.0.113:80", "10.0.0.1"),
        ("[203.0.113.7]:80", "10.0.0.1"),
        ("[2001:db8::1]80", "10.0.0.1"),
        ("[2001:db8::1%eth0]:80", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6:5041", "10.0.0.1"),
    ],
)
def test_a_port_behind_an_address_is_understood(forwarded: str, client: str) -> None:
    """Load balancers may write ports into `X-Forwarded-For`, and IPv6 addresses in brackets."""
    assert client_of("X-Forwarded-For", forwarded) == client


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["for=203.0.113.7"], "203.0.113.7"),
        (["For=203.0.113.7"], "203.0.113.7"),
        (['for="203.0.113.7:50412"'], "203.0.113.7"),
        (['for="203.0.113.7:_port"'], "203.0.113.7"),
        (['for="[2001:db8::1]:4711"'], "2001:db8::1"),
        (['for="[2001:db8::1]"'], "2001:db8::1"),
        ([r'for="\2\0\3.0.113.7"'], "203.0.113.7"),
        (["by=10.0.0.1;FOR=203.0.113.7;proto=https;host=auth.example.org"], "203.0.113.7"),
        (["proto=https; for=203.0.113.7 ; host=x"], "203.0.113.7"),
        ([";for=203.0.113.7;;"], "203.0.113.7"),
        (["for=198.51.100.9, for=203.0.113.7"], "203.0.113.7"),
        (["for=203.0.113.7, for=10.9.9.9,for=10.8.8.8"], "203.0.113.7"),
        (["for=198.51.100.9", "for=203.0.113.7", 'for="[fd00::9]";proto=http'], "203.0.113.7"),
        (["for=203.0.113.7, , for=10.9.9.9 ,"], "203.0.113.7"),
        (['for=203.0.113.7;host="a,b, for=198.51.100.9"'], "203.0.113.7"),
        (['for=203.0.113.7;host="a,\\"b\\", for=\\"198.51.100.9\\""'], "203.0.113.7"),
        (['host="a, for=";proto=https;for=203.0.113.7'], "203.0.113.7"),
    ],
)
def test_the_client_is_told_by_forwarded(lines: list[str], client: str) -> None:
    """RFC 7239, 4 and 6: elements, parameters, quoted strings and several header lines are understood."""
    assert client_of("Forwarded", *lines) == client


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], "10.0.0.1"),
        ([""], "10.0.0.1"),
        ([" , "], "10.0.0.1"),
        (["203.0.113.7"], "10.0.0.1"),
        (["for="], "10.0.0.1"),
        (["for=unknown"], "10.0.0.1"),
        (["for=_hidden"], "10.0.0.1"),
        (['for="_hidden:_port"'], "10.0.0.1"),
        (["proto=https"], "10.0.0.1"),
        (["for=203.0.113.7:80"], "10.0.0.1"),
        (["for=[2001:db8::1]"], "10.0.0.1"),
        (['for="2001:db8::1"'], "10.0.0.1"),
        (['for="[2001:db8::1%eth0]"'], "10.0.0.1"),
        (['for="203.0.113.7'], "10.0.0.1"),
        (['for=203.0.113.7"'], "10.0.0.1"),
        (['for=""'], "10.0.0.1"),
        (["for =203.0.113.7"], "10.0.0.1"),
        (["for=203.0.113.7;for=203.0.113.7"], "10.0.0.1"),
        (["for=203.0.113.7 proto=https"], "10.0.0.1"),
        (["for=203.0.113.7", "for=unknown"], "10.0.0.1"),
        (["for=203.0.113.7, for=_hidden, for=10.9.9.9"], "10.9.9.9"),
        (["for=203.0.113.7, nonsense, for=10.9.9.9"], "10.9.9.9"),
    ],
)
def test_what_forwarded_does_not_tell_leaves_the_last_address_that_is_certain(lines: list[str], client: str) -> None:
    """RFC 7239, 6.2 and 6.3: after a hidden node or a malformed element, the last certain address is used."""
    assert client_of("Forwarded", *lines) == client


@given(
    before=st.text('fo="\\,; 2.[]:x', max_size=60),
    client=st.ip_addresses().filter(lambda address: not any(address in network for network in TRUSTED)),
    host=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30),
)
def test_nothing_that_a_client_writes_hides_what_its_proxy_appends(before: str, client: object, host: str) -> None:
    """An unfinished quoted string from the client, or quoted parts of its request, cannot hide the address that the
    proxy adds."""
    node = f'"[{client}]:4711"' if ":" in str(client) else client
    quoted = host.replace("\\", r"\\").replace('"', r"\"")
    own = f'for={node};host="{quoted}"'
    expected = getattr(client, "ipv4_mapped", None) or client
    for lines in ([f"{before},{own}"], [before, own]):
        request = asked_by("10.0.0.1", *lines, header="Forwarded")
        assert client_address(request, TRUSTED, "Forwarded") == expected


@pytest.mark.parametrize("header", HEADERS)
@given(remote=st.ip_addresses().map(str), forwarded=st.text(st.characters(exclude_categories=["C"])))
def test_any_forwarding_header_names_some_client(header: ProxyHeader, remote: str, forwarded: str) -> None:
    """No header value raises an error."""
    assert client_networks(asked_by(remote, forwarded, header=header), TRUSTED, header)


@pytest.mark.parametrize(("header", "form"), [("X-Forwarded-For", "{}"), ("Forwarded", "for={}")])
def test_of_very_many_hops_the_last_ones_are_read(header: ProxyHeader, form: str) -> None:
    """Only the last hops are read, so that half a mebibyte of trusted hops does not block a worker."""
    client, proxy = form.format("203.0.113.1"), f", {form.format('10.0.0.2')}"
    request = asked_by("10.0.0.1", client + proxy * 60_000, header=header)
    with counting(module, "address_of") as asked:
        assert client_networks(request, TRUSTED, header) == ("10.0.0.2",)
    assert len(asked) < 40
    assert client_of(header, client + proxy * 31) == "203.0.113.1"


@pytest.mark.parametrize("part", ["; ", ";\t \t", "a=b ;", 'a="\\"";', "\\x", "a=", "=", 'a="'])
@pytest.mark.parametrize("end", ["", ",for=192.0.2.7"])
def test_an_element_that_is_not_one_is_refused_at_once(part: str, end: str) -> None:
    """An element of any length is read in linear time: with a pattern that tries every split, this test never ends."""
    line = f"for=192.0.2.1;{part * (1000 // len(part))}\x00{end}"
    assert client_of("Forwarded", line) == ("192.0.2.7" if end else "10.0.0.1")


@pytest.mark.parametrize(
    "line", ['for="' + "a," * 30_000, "for=" + "1" * 60_000, "," * 60_000, " " * 60_000, "a=b;" * 15_000, '"' * 60_000]
)
def test_of_one_long_element_a_bounded_part_is_read(line: str) -> None:
    """A long element is read only up to a limit."""
    pieces = []

    class Counting:
        def fullmatch(self, piece: str) -> object:
            pieces.append(piece)
            return element.fullmatch(piece)

    element = module._ELEMENT
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ELEMENT", Counting())
        assert client_of("Forwarded", line) == "10.0.0.1"
    assert len(pieces) <= 32
    assert sum(map(len, pieces)) <= 32 * 1024


@contextmanager
def counting(module: ModuleType, name: str) -> Iterator[list[object]]:
    """The first arguments of all calls of a module's function."""
    calls: list[object] = []
    function = getattr(module, name)

    def counted(argument: object) -> object:
        calls.append(argument)
        return function(argument)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, counted)
        yield calls


WRITTEN = {
    "X-Forwarded-For": ("203.0.113.7:50412", "[2001:db8::1]:50412"),
    "Forwarded": ("for=203.0.113.7;proto=https", 'for="[2001:db8::1]:50412"'),
}


@pytest.mark.parametrize("header", HEADERS)
async def test_clients_behind_a_proxy_are_told_apart_by_the_header_that_it_sets(
    tmp_path: Path, header: ProxyHeader
) -> None:
    """Every client address has its own quota, whatever its port and whatever the client writes into the other
    header."""
    (other,) = set(HEADERS) - {header}
    limits = {"RATE_LIMIT_ENABLED": "true", "TRUSTED_PROXIES": "127.0.0.1", "TRUSTED_PROXY_HEADER": header}
    async with running(tmp_path, **limits) as server:
        for written in WRITTEN[header]:
            for number in range(31):
                forged = WRITTEN[other][0].replace("203.0.113.7", f"198.51.100.{number}")
                answer = await server.get("/auth/google/start", headers={header: written, other: forged})
                assert answer.status == (200 if number < 30 else 429), (written, number)
        assert (await server.get("/auth/google/start", headers={other: WRITTEN[other][0]})).status == 200


@pytest.mark.parametrize("header", HEADERS)
async def test_metrics_are_for_the_reader_that_the_proxys_header_names(tmp_path: Path, header: ProxyHeader) -> None:
    """Only the configured header counts for access to the metrics. A request whose proxy did not set it is refused."""
    (other,) = set(HEADERS) - {header}
    reader = {"METRICS_ALLOW": "203.0.113.7", "TRUSTED_PROXIES": "127.0.0.1", "TRUSTED_PROXY_HEADER": header}
    async with running(tmp_path, **reader) as server:
        (mine, theirs), (forged, _) = WRITTEN[header], WRITTEN[other]
        for headers, status in (
            ({header: mine}, 200),
            ({header: mine, other: WRITTEN[other][1]}, 200),
            ({header: theirs, other: forged}, 403),
            ({other: forged}, 403),
            ({header: f"{WRITTEN[header][0]}, nonsense!"}, 403),
        ):
            assert (await server.get("/metrics", headers=headers)).status == status, headers


async def test_several_lines_of_forwarded_are_one_list(tmp_path: Path) -> None:
    """RFC 9110, 5.3: several header lines form one list, whose end is the line that the proxy added."""
    limits = {"RATE_LIMIT_ENABLED": "true", "TRUSTED_PROXIES": "127.0.0.1", "TRUSTED_PROXY_HEADER": "forwarded"}
    async with running(tmp_path, **limits) as server:
        left = [await _left(server, number) for number in range(3)]
    assert left == ["r=29", "r=28", "r=27"]


async def _left(server: Server, number: int) -> str:
    lines = f"Forwarded: for=198.51.100.{number}\r\nForwarded: for=203.0.113.7\r\n"
    head = f"GET /auth/google/start HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"
    answer = await exchange(server, head.encode())
    assert answer is not None
    return answer.headers["ratelimit"].partition(";")[2]


async def test_remembered_clients_are_told_apart_and_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client is remembered by its peer and the proxy's whole header. The number of clients and the length of the
    header are bounded."""
    monkeypatch.setattr(rate_limits, "_REMEMBERED_CLIENTS", 10)
    limits, counted = RateLimits("memory://", TRUSTED, seed=b"seed"), []

    async def remember(shares: list[Share]) -> Verdict:
        counted.extend(share.key for share in shares)
        return Verdict(1, None)

    monkeypatch.setattr(limits._storage, "count", remember)
    clients = [f"203.0.113.{number}" for number in range(25)]
    long = ", ".join(["192.0.2.1"] * 100)
    for client in clients + clients:
        await limits.count_address(asked_by("10.0.0.1", client), "token", 60)
        await limits.count_address(asked_by("10.0.0.1", long, client), "token", 60)
        await limits.count_address(asked_by("198.51.100.7", client), "token", 60)
    peer = "nextarget/token/{198.51.100.7}198.51.100.7"
    found = [f"nextarget/token/{{{client}}}{client}" for client in clients + clients]
    assert counted == [key for client in found for key in (client, client, peer)]
    assert len(limits._networks) <= 10
    assert not any(long in key for key in limits._networks)
