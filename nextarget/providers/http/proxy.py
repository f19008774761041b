"""The proxy for requests to other machines, and the hosts that are reached without it, by the rules of curl."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy for requests to other machines. `url` may contain a user and a password, which only the proxy gets.

    `exempt` lists the hosts that are reached without the proxy. A name stands for itself and its subdomains, an address
    may be a network, and `*` means all hosts (https://curl.se/libcurl/c/CURLOPT_NOPROXY.html). Other entries are
    ignored, because other programs read the same list, and some know further forms. This machine is never reached
    through the proxy.
    """

    url: str = field(repr=False)
    exempt: Sequence[str] = ()

    def toward(self, url: str) -> str | None:
        """The proxy's URL for a request to `url`, or None for a request without the proxy."""
        host = (urlsplit(url).hostname or "").rstrip(".")
        return None if _is_local(host) or any(_matches(entry, host) for entry in self.exempt) else self.url


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _matches(entry: str, host: str) -> bool:
    if entry == "*":
        return True
    address = _address(host)
    if address is None:
        name = entry.lower().removeprefix("*").strip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
    try:
        return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
