"""The kinds of values that settings have."""

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, TypeVar

from nextarget.model import Secret
from nextarget.settings import validators
from nextarget.settings.declaring import Kind, Unreadable

T = TypeVar("T")
Network = IPv4Network | IPv6Network

_WHOLE = re.compile(r"([+-]?[0-9]{1,20}(?:_[0-9]{1,20}){0,9})(?:\.0+)?")
"""A whole number, perhaps with underscores between its digits, or with a fraction of zero."""
_PLAIN = re.compile(r"[\x20-\x7e]{1,200}")
TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
"""The words for true, in lower case."""
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


def _number(text: str, least: int, most: int) -> int:
    if not (found := _WHOLE.fullmatch(text)) or not least <= (number := int(found[1])) <= most:
        raise Unreadable
    return number


def _truth(text: str) -> bool:
    word = text.lower()
    if word in TRUE:
        return True
    if word in _FALSE:
        return False
    raise Unreadable


def _one_of(text: str, words: Iterable[str]) -> str:
    found = next((word for word in words if text.isascii() and word.lower() == text.lower()), None)
    if found is None:
        raise Unreadable
    return found


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise Unreadable from None


def _matching(text: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(text):
        raise Unreadable
    return text


_plain_text = partial(_matching, pattern=_PLAIN)


def _app_client_id(text: str) -> str:
    return validators.one_client_id(_plain_text(text))


def _hosts(text: str) -> list[str]:
    """The items of a list with commas or white space between them, as in curl's NO_PROXY."""
    return re.findall(r"[^\s,]+", text)


def _items(text: str) -> list[str]:
    """The items of a comma-separated list. White space around items and empty items are left out."""
    return [item.strip() for item in text.split(",") if item.strip()]


def number(least: int, most: int) -> Kind[int]:
    """A whole number."""
    return Kind(partial(_number, least=least, most=most), f"a number from {least} to {most}")


def one_of(words: Iterable[str]) -> Kind[Any]:
    """One of these words, in any case. The value has the case of the list."""
    return Kind(partial(_one_of, words=tuple(words)), words=tuple(words))


def matching(pattern: str) -> Kind[str]:
    """A text that matches a pattern as a whole."""
    return Kind(partial(_matching, pattern=re.compile(pattern)))


def list_of(items: Kind[T], split: Callable[[str], Iterable[str]] = _items) -> Kind[tuple[T, ...]]:
    """A list with commas between the items."""
    return replace(items, takes=f"a list; items: {items.takes}", split=split)  # type: ignore[return-value]


ANY_TEXT: Kind[str] = Kind(str)
PLAIN_TEXT: Kind[str] = Kind(_plain_text)
TRUTH: Kind[bool] = Kind(_truth, words=("true", "false"))
FILE: Kind[Path] = Kind(Path, "the path of a file")
ORIGIN: Kind[str] = Kind(validators.origin, "a URL of scheme, host and port alone")
ENDPOINT: Kind[str] = Kind(validators.endpoint, "a URL; `https`, or `http` on this machine", endpoint=True)
CLIENT_SECRET: Kind[Secret] = Kind(validators.client_secret, "a secret, as the provider shows it", secret=True)
SIGNING_SECRET: Kind[Secret] = Kind(validators.signing_secret, "a secret of at least 32 bytes", secret=True)
NETWORK: Kind[Network] = Kind(_network, "an address or a network")
REDIRECT_URI: Kind[str] = Kind(validators.redirect_uri, "an absolute URI")
DATABASE_URL: Kind[str] = Kind(validators.database_url, "the URL of a database")
STORAGE_URL: Kind[str] = Kind(validators.storage_url, "the URL of a storage")
COLLECTOR: Kind[str] = Kind(validators.collector, "a URL")
PROXY_URL: Kind[str] = Kind(validators.proxy, "the URL of a proxy")
BROWSER_ORIGIN: Kind[str] = Kind(validators.browser_origin, "an origin, as a browser sends it")
HOSTS: Kind[tuple[str, ...]] = list_of(PLAIN_TEXT, _hosts)
CLIENT_ID: Kind[str] = Kind(lambda text: validators.credential(validators.one_client_id(text)))
"""Our client id at a provider that takes one."""
APP_CLIENT_ID: Kind[str] = Kind(_app_client_id)
APP_NAME: Kind[str] = Kind(validators.app_name)
APP_LINK: Kind[str] = Kind(validators.app_link)
ANDROID_APP_LINK: Kind[str] = Kind(
    lambda text: validators.android_app_link(_plain_text(text)), "`package.name=` and a SHA-256 fingerprint"
)
APPLE_APP_ID: Kind[str] = Kind(lambda text: validators.apple_app_id(_plain_text(text)), "a team id and a bundle id")
