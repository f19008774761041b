"""The way out, where there is none but through a proxy: which hosts are asked through it, as curl decides that."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy for questions to other machines. `url` may hold a user and a password, for the proxy alone.

    `exempt` lists who is asked directly: a name is also every name below it, an address may be a network, and `*` is
    everybody (https://curl.se/libcurl/c/CURLOPT_NOPROXY.html). What cannot be understood is passed over: other
    programs read the list too, and some know more. This machine is always asked directly.
    """

    url: str = field(repr=False)
    exempt: Sequence[str] = ()

    def toward(self, url: str) -> str | None:
        """The proxy's URL, or None where a URL is asked directly."""
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
