"""What is wrong with settings together, though each is right by itself; and what is right, and still surprises."""

from collections.abc import Callable, Collection, Iterator
from urllib.parse import parse_qsl, urlsplit

from nextarget.errors import SettingProblem
from nextarget.model import Provider
from nextarget.settings.fields import CREDENTIALS, Environment, Settings
from nextarget.settings.validators import is_safe_origin, refused_address, refused_redirects

_REDIRECT_URIS = tuple(f"{provider.upper()}_REDIRECT_URI" for provider in Provider)
_SENT = frozenset(
    {
        *("client_id", "redirect_uri", "response_type", "response_mode", "scope", "state"),
        *("nonce", "code_challenge", "code_challenge_method"),
    }
)
_ALSO_SENT = {
    "GOOGLE_AUTHORIZATION_ENDPOINT": frozenset({"prompt", "login_hint"}),
    "FACEBOOK_AUTHORIZATION_ENDPOINT": frozenset({"auth_type", "override_default_response_type"}),
}
"""What a browser brings to a provider, so that the setting's own query must not have it."""
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})


def contradictions(text: Callable[[str], str | None], unread: Collection[str] = ()) -> Iterator[SettingProblem]:
    """Of settings as they were found, since others of them may not be understood; `text` is of a setting's name.
    `unread` are set, in files that cannot be read, which is told of by itself."""
    yield from _half_configured(text, unread)
    yield from _elsewhere(text)
    yield from _sent_twice(text)
    if (text("ENVIRONMENT") or "").lower() == Environment.PRODUCTION:
        yield from _too_open(text)


def doubts(settings: Settings) -> Iterator[str]:
    """A sentence about each thing that an operator may not have meant."""
    for name, networks, consequence in (
        ("TRUSTED_PROXIES", settings.trusted_proxies, "whoever asks can pass for any address, past every rate limit"),
        ("METRICS_ALLOW", settings.metrics_allow, "everybody may read /metrics"),
    ):
        if any(network.prefixlen == 0 for network in networks):
            yield f"{name} lists every address there is: {consequence}. List those that are meant."
    if settings.workers > 1 and settings.rate_limit_enabled and settings.rate_limit_storage_url == "memory://":
        yield (
            f"Each of the {settings.workers} WORKERS counts by itself: clients may ask {settings.workers} times as "
            "often as the limits say. Set RATE_LIMIT_STORAGE_URL to a Redis."
        )
    if not settings.providers:
        yield "No provider is on: nobody can sign in. `nextarget serve --sandbox` needs none."


def _half_configured(text: Callable[[str], str | None], unread: Collection[str]) -> Iterator[SettingProblem]:
    for provider, names in CREDENTIALS.items():
        missing = [name for name in names if not text(name) and name not in unread]
        if missing and len(missing) < len(names):
            yield SettingProblem(
                ", ".join(missing), "missing.",
                f"{provider.display_name} is on when all of {', '.join(names)} are set, off when none is.",
            )  # fmt: skip


def _elsewhere(text: Callable[[str], str | None]) -> Iterator[SettingProblem]:
    """A provider sends people back to this server, and by the name under which they came: browsers keep the login's
    cookie for one host, whatever its port (RFC 6265, 8.5), and do not bring a Secure one to plain http."""
    ours = _place(text("PUBLIC_URL") or Settings.model_fields["public_url"].default)
    for provider, name in zip(Provider, _REDIRECT_URIS, strict=True):
        path = f"/auth/{provider}/callback"
        redirect_uri = text(name)
        theirs = _place(redirect_uri or "")
        if redirect_uri and not redirect_uri.endswith(path):
            yield SettingProblem(name, "does not lead to this server.", f"Write PUBLIC_URL followed by {path}.")
        elif ours is None or theirs is None:
            continue  # is told of for itself
        elif ours[1] != theirs[1]:
            yield SettingProblem(
                name,
                "is on another host than PUBLIC_URL, where browsers do not bring the login's cookie.",
                f"Write PUBLIC_URL followed by {path}, or let PUBLIC_URL name the same host.",
            )
        elif ours[0] == "https" != theirs[0]:
            yield SettingProblem(
                name,
                "is plain http while PUBLIC_URL is https, and browsers do not bring the login's cookie there.",
                f"Write PUBLIC_URL followed by {path}.",
            )


def _place(url: str) -> tuple[str, str] | None:
    """Scheme and host; None for what is no URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname) if parts.scheme and parts.hostname else None


def _sent_twice(text: Callable[[str], str | None]) -> Iterator[SettingProblem]:
    """A parameter must not come twice (RFC 6749, 3.1), nor PKCE without the scope that it takes at Facebook."""
    config_id = frozenset({"config_id"}) if text("FACEBOOK_CONFIG_ID") else frozenset()
    queries = {name: _parameters(text(name)) for name in _ALSO_SENT}
    for name, also_sent in _ALSO_SENT.items():
        sent = _SENT | also_sent | (config_id if name.startswith("FACEBOOK") else frozenset())
        if twice := sorted(queries[name] & sent):
            problem = f"has {', '.join(map(repr, twice))} in its query, which the server sends itself."
            yield SettingProblem(name, problem, "Leave that out; the rest of the query is kept.")
    business = config_id or "config_id" in queries["FACEBOOK_AUTHORIZATION_ENDPOINT"]
    if business and (text("FACEBOOK_PKCE") or "").lower() in _TRUE:
        problem = "needs the scope openid, for which Facebook Login for Business has no place."
        yield SettingProblem("FACEBOOK_PKCE", problem, "Leave it out, or FACEBOOK_CONFIG_ID.")


def _parameters(url: str | None) -> frozenset[str]:
    query = (url or "").partition("?")[2]
    return frozenset(parameter for parameter, _ in parse_qsl(query, keep_blank_values=True))


def _too_open(text: Callable[[str], str | None]) -> Iterator[SettingProblem]:
    """What production forbids."""
    for name in ("PUBLIC_URL", *_REDIRECT_URIS, "APP_PRIVACY_URL", "APP_TERMS_URL"):
        url = text(name) or ("" if name != "PUBLIC_URL" else Settings.model_fields["public_url"].default)
        if found := refused_address(url):
            yield SettingProblem(name, *found)
    redirect_uris = (uri.strip() for uri in (text("APP_REDIRECT_URIS") or "").split(","))
    if found := refused_redirects(redirect_uris):
        yield SettingProblem("APP_REDIRECT_URIS", *found)
    if "*" in (text("CORS_ALLOW_ORIGINS") or ""):
        remedy = "Name the origins, such as https://app.example.com."
        yield SettingProblem("CORS_ALLOW_ORIGINS", "lets every origin in, which production forbids.", remedy)
    if not all(map(is_safe_origin, (text("CORS_ALLOW_ORIGINS") or "").split(","))):
        problem = "lists an origin of plain http on another machine, which production forbids."
        yield SettingProblem("CORS_ALLOW_ORIGINS", problem, "Serve the page by https, and list that origin.")
