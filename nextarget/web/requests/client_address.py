"""Who asks, as far as it can be known: the peer of the connection, or the client that trusted proxies name.

They name it in one header, and only that one is read: a proxy that sets one of the two passes on what a client wrote
into the other.
"""

import ipaddress
import re
from collections.abc import Iterator

from aiohttp import web

from nextarget.settings import Network, ProxyHeader
from nextarget.web.requests.grammar import OWS

_MOST_HOPS = 32
"""How many proxies a request may have come through."""
_MOST_ADDRESS = 64
"""Characters in an address; the longest, of IPv6 with a zone, has fewer."""
_MOST_ELEMENT = 1024
"""Characters in one element of `Forwarded`: an address, a host name and a protocol have fewer."""

_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{1,45}")
# RFC 7239, 6: of a node the address, and of that none with a zone, which means something on one machine alone (RFC
# 4007, 11.2). A port may be a name that somebody made up.
_PORT = r"[0-9]{1,5}|_[A-Za-z0-9._-]+"
_NODE = re.compile(rf"(?:(?P<v4>[0-9.]{{7,15}})|\[(?P<v6>(?=[^\]]*:)[0-9A-Fa-f:.]{{2,45}})\])(?::(?:{_PORT}))?")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_PAIR = rf'(?P<name>{_TOKEN})=(?:(?P<token>{_TOKEN})|"(?P<quoted>(?:[\t !#-\[\]-~]|\\[\t -~])*+)")'
_PAIRS = re.compile(_PAIR)
_UNNAMED = re.sub(r"\?P<[a-z]+>", "?:", _PAIR)
# RFC 7239, 4, and white space around the semicolon, which some write and nobody can take for anything else.
_ELEMENT = re.compile(rf"[ \t]*+(?:{_UNNAMED})?[ \t]*+(?:;[ \t]*+(?:{_UNNAMED})?[ \t]*+)*+")
_QUOTED_PAIR = re.compile(r"\\(.)")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_networks(
    request: web.BaseRequest, trusted: tuple[Network, ...], header: ProxyHeader = "X-Forwarded-For"
) -> tuple[str, ...]:
    """What is the client's, and of IPv6 the wider network that may be: the /64 has one owner, and the /48 often has."""
    address = client_address(request, trusted, header)
    if address is None:
        return ("unknown",)
    if address.version == 4:
        return (str(address),)
    return tuple(str(ipaddress.ip_network((address, width), strict=False)) for width in (64, 48))


def client_address(
    request: web.BaseRequest, trusted: tuple[Network, ...], header: ProxyHeader = "X-Forwarded-For"
) -> Address | None:
    """Who asks, as far as it can be known.

    The header is read from the right, and only as long as each hop is a trusted proxy: what a client wrote into it
    itself changes nothing.
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
    """The hops that a header names, the nearest first; None for one that is no address, behind which nobody can see.

    A client may send half a mebibyte of them: behind _MOST_HOPS there is one None.
    """
    lines = request.headers.getall(header, [])
    if lines:
        text = ",".join(lines)
        yield from _forwarded(text) if header == "Forwarded" else _forwarded_for(text)


def _forwarded_for(text: str) -> Iterator[Address | None]:
    """The items of `X-Forwarded-For`: addresses, of which some proxies write ports too, those of IPv6 in brackets then.

    Of more than _MOST_HOPS the first ones are in one piece, which is no address.
    """
    for item in reversed(text.rsplit(",", _MOST_HOPS)):
        hop = item.strip(OWS)
        yield (address_of(hop) if _ADDRESS.fullmatch(hop) else None) or _address_of_node(hop)


def _forwarded(text: str) -> Iterator[Address | None]:
    """The `for` of the elements of `Forwarded` (RFC 7239, 4).

    An element is the shortest piece behind a comma that is one. So what a proxy appended is read as it meant it, even
    behind a quoted string that a client began and did not end; and no comma within its own quoted strings parts it,
    since a piece that begins inside a quoted string has one quotation mark without a partner.
    """
    begin = end = len(text)
    for _ in range(_MOST_HOPS):
        begin = text.rfind(",", max(0, end - _MOST_ELEMENT), begin)
        if begin < 0 and end > _MOST_ELEMENT:
            break
        piece = text[begin + 1 : end]
        if _ELEMENT.fullmatch(piece):
            if piece.strip(OWS):  # RFC 9110, 5.6.1.2: empty elements of a list are none
                yield _for(piece)
            end = begin
        elif begin < 0:
            break
        if begin < 0:
            return
    yield None


def _for(element: str) -> Address | None:
    """The address of an element's `for`: None if that hides it, and if it comes twice."""
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
    """The address that a text is; an IPv4 one written as IPv6 is the IPv4 one."""
    if len(text) > _MOST_ADDRESS:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
