"""The apps that may sign people in, and the redirects to which they may get their answers."""

import re
from collections.abc import Iterable, Iterator

from nextarget.errors import InvalidRequest, RedirectRefused
from nextarget.model import Client, LogoFile

_LOOPBACK = re.compile(
    r"(?P<host>http://(?:127\.0\.0\.1|\[::1\]|localhost))(?::(?P<port>[1-9][0-9]{0,4}))?(?P<path>(?:/.*)?)"
)


class Clients:
    """All apps, by their `client_id`. A request without a `client_id` belongs to the first app."""

    def __init__(self, clients: Iterable[Client]) -> None:
        """`clients` has at least one app, and no `client_id` twice. `settings` has checked that."""
        self._by_id = {client.id: client for client in clients}
        self.first = next(iter(self._by_id.values()))
        self.ids = frozenset(self._by_id)
        self.further_ids = self.ids - {self.first.id}
        self._redirects = {client.id: _Redirects(client.redirects) for client in self._by_id.values()}
        files = (client.logo for client in self._by_id.values())
        self._logos = {logo.digest: logo for logo in files if isinstance(logo, LogoFile)}

    def __contains__(self, client_id: str) -> bool:
        return client_id in self._by_id

    def get(self, client_id: str) -> Client | None:
        return self._by_id.get(client_id)

    def named(self, client_id: str | None) -> Client:
        """The app with this id; for None, the first app. Raises InvalidRequest if no app has this id."""
        if client_id is None:
            return self.first
        if client_id not in self._by_id:
            raise InvalidRequest("The parameter 'client_id' names no app of this service.", note="unknown client_id")
        return self._by_id[client_id]

    def further_id(self, client: Client) -> str | None:
        """The id of the app, or None for the first app."""
        return client.id if client.id in self.further_ids else None

    def check(self, client_id: str, redirect_uri: str) -> Client:
        """The app, if it is configured with this redirect. Raises RedirectRefused.

        Redirects are compared byte for byte (RFC 9700, 4.1.3). Only a listed loopback redirect matches with any port
        (RFC 8252, 7.3). The same is true for `localhost`, which can only be listed in development.
        """
        client = self._by_id.get(client_id)
        if client is None:
            raise RedirectRefused(note="unknown client_id")
        if redirect_uri not in self._redirects[client.id]:
            listed = "APP_REDIRECT_URIS" if client is self.first else "the redirect_uris of its app in APPS_FILE"
            raise RedirectRefused(note=f"redirect_uri not listed in {listed}")
        return client

    def __iter__(self) -> Iterator[Client]:
        return iter(self._by_id.values())

    def logo(self, digest: str) -> LogoFile | None:
        """The logo whose content has this digest, or None."""
        return self._logos.get(digest)


class _Redirects:
    """The redirects of one app."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._exact = frozenset(allowed)
        self._loopback = frozenset(filter(None, map(_without_port, allowed)))

    def __contains__(self, redirect_uri: str) -> bool:
        return redirect_uri in self._exact or _without_port(redirect_uri) in self._loopback


def needs_person(redirect_uri: str) -> bool:
    """Whether a login to this redirect must not finish without an action of the person.

    Any app on the device can claim a custom scheme or a loopback port, and begin a login with its own `code_challenge`
    (RFC 8252, 8.6). An https redirect is safe from that.
    """
    return not redirect_uri.startswith("https://")


def opens_program(client: Client, redirect_uri: str) -> bool:
    """Whether the operating system has to open a program of the app for this redirect.

    A custom scheme (RFC 8252, 7.1) leads nowhere else. An https redirect is claimed by a program (7.2) if the app has
    one in the files of `/.well-known`; otherwise it leads to a site, which the browser opens as any other. A loopback
    redirect (7.3) is a plain request too.
    """
    if redirect_uri.startswith("https://"):
        return bool(client.android_app_links or client.apple_app_ids)
    return not redirect_uri.startswith("http://")


def _without_port(redirect_uri: str) -> str | None:
    """A loopback redirect without its port; None for any other redirect. The rest of the text is not normalised."""
    found = _LOOPBACK.fullmatch(redirect_uri)
    if found is None or int(found["port"] or 0) > 65535:
        return None
    return found["host"] + found["path"]
