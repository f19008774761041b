"""The address of a request's client: the peer of the connection, or the address that trusted proxies report.

The proxies report it in one header, `X-Forwarded-For` or `Forwarded`, and only the configured one is read. A proxy that
sets one of the two passes the other on as the client sent it.
"""

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache

from aiohttp import web

from nextarget.settings import Network, ProxyHeader
from nextarget.web.requests.grammar import OWS

_MAX_HOPS = 32
"""The number of proxies that a request may have passed."""
_MAX_ADDRESS = 64
"""Characters in an address. Even an IPv6 address with a zone is shorter."""
_MAX_ELEMENT = 1024
"""Characters in one element of `Forwarded`. An address, a host name and a protocol together are shorter."""

_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{1,45}")
# RFC 7239, 6: a node is an address and perhaps a port. An address with a zone is refused, because a zone has a meaning
# on one machine only (RFC 4007, 11.2). In place of a port number, a proxy may send a name that it made up.
_PORT = r"[0-9]{1,5}|_[A-Za-z0-9._-]+"
_NODE = re.compile(rf"(?:(?P<v4>[0-9.]{{7,15}})|\[(?P<v6>(?=[^\]]*:)[0-9A-Fa-f:.]{{2,45}})\])(?::(?:{_PORT}))?")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_PAIR = rf'(?P<name>{_TOKEN})=(?:(?P<token>{_TOKEN})|"(?P<quoted>(?:[\t !#-\[\]-~]|\\[\t -~])*)")'
_PAIRS = re.compile(_PAIR)
_UNNAMED = re.sub(r"\?P<[a-z]+>", "?:", _PAIR)
# RFC 7239, 4. White space around the semicolon is accepted too: some proxies send it, and it is not ambiguous.
_ELEMENT = re.compile(rf"[ \t]*+(?:{_UNNAMED}[ \t]*+)?(?:;[ \t]*+(?:{_UNNAMED}[ \t]*+)?)*")
_QUOTED_PAIR = re.compile(r"\\(.)")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_networks(
    request: web.BaseRequest, trusted: tuple[Network, ...], header: ProxyHeader = "X-Forwarded-For"
) -> tuple[str, ...]:
    """The networks of a client: its IPv4 address, or for IPv6 its /64 and /48.

    A /64 always has one owner, and a /48 often has one.
    """
    address = client_address(request, trusted, header)
    if address is None:
        return ("unknown",)
    if address.version == 4:
        return (str(address),)
    number = int(address)  # with the address itself, the library takes three times as long
    return tuple(str(ipaddress.IPv6Network((number, width), strict=False)) for width in (64, 48))


def client_address(
    request: web.BaseRequest, trusted: tuple[Network, ...], header: ProxyHeader = "X-Forwarded-For"
) -> Address | None:
    """The address of the client; None if it is unknown.

    The header is read from right to left, as long as the hop that added an entry is a trusted proxy. So entries that
    the client itself wrote into the header have no effect.
    """
    address = address_of(request.remote or "")
    if address is not None and in_any(address, trusted):
        for forwarded in hops(request, header):
            if forwarded is None:
                break
            address = forwarded
            if not in_any(address, trusted):
                break
    return address


def hops(request: web.BaseRequest, header: ProxyHeader) -> Iterator[Address | None]:
    """The hops that a header names, the nearest first. A hop that is not an address is None: what is behind is unknown.

    A client may send half a mebibyte of hops. After _MAX_HOPS, one None replaces the rest.
    """
    lines = request.headers.getall(header, [])
    if lines:
        text = ",".join(lines)
        yield from _forwarded(text) if header == "Forwarded" else _forwarded_for(text)


def _forwarded_for(text: str) -> Iterator[Address | None]:
    """The items of `X-Forwarded-For`: addresses. Some proxies add a port, and then put an IPv6 address in brackets.

    If there are more than _MAX_HOPS items, the split leaves the first ones in one piece, which is not an address.
    """
    for item in reversed(text.rsplit(",", _MAX_HOPS)):
        hop = item.strip(OWS)
        yield (address_of(hop) if _ADDRESS.fullmatch(hop) else None) or _address_of_node(hop)


def _forwarded(text: str) -> Iterator[Address | None]:
    """The `for` parameters of the elements of `Forwarded` (RFC 7239, 4), from right to left.

    The loop moves to the left from comma to comma, until the text after the comma is a well-formed element. So the
    element that a proxy appended is read correctly even if the client's text before it has an unclosed quotation mark.
    A comma inside a quoted string does not split an element: the text after such a comma has an unpaired quotation
    mark, so it is not well-formed.
    """
    begin = end = len(text)
    for _ in range(_MAX_HOPS):
        begin = text.rfind(",", max(0, end - _MAX_ELEMENT), begin)
        if begin < 0 and end > _MAX_ELEMENT:
            break
        piece = text[begin + 1 : end]
        if _ELEMENT.fullmatch(piece):
            if piece.strip(OWS):  # RFC 9110, 5.6.1.2: empty elements of a list are ignored
                yield _for(piece)
            end = begin
        elif begin < 0:
            break
        if begin < 0:
            return
    yield None


def _for(element: str) -> Address | None:
    """The address in an element's `for` parameter; None if it is missing, comes twice, or is not an address."""
    nodes = [
        _QUOTED_PAIR.sub(r"\1", found["quoted"]) if found["token"] is None else found["token"]
        for found in _PAIRS.finditer(element)
        if found["name"].lower() == "for"
    ]
    return _address_of_node(nodes[0]) if len(nodes) == 1 else None


def _address_of_node(node: str) -> Address | None:
    found = _NODE.fullmatch(node)
    return address_of(found["v4"] or found["v6"]) if found else None


def in_any(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def address_of(text: str) -> Address | None:
    """Parse an address; None if the text is not one. An IPv4-mapped IPv6 address becomes the IPv4 address."""
    return _parsed(text) if len(text) <= _MAX_ADDRESS else None


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
