"""Checks of settings against one another: contradictions are errors, doubts are warnings."""

from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

from nextarget.errors import SettingProblem
from nextarget.model import Provider
from nextarget.registry import PROVIDERS, display_name
from nextarget.settings.catalogue import credentials_of, name_of, settings_of
from nextarget.settings.fields import Environment, Settings
from nextarget.settings.provider_settings import Text
from nextarget.settings.validators import is_safe_origin, parameters_in, refused_address, refused_redirects

_SENT = frozenset(
    {
        *("client_id", "redirect_uri", "response_type", "response_mode", "scope", "state"),
        *("nonce", "code_challenge", "code_challenge_method"),
    }
)
"""Parameters of the authorization request to any provider. The endpoint's own query must not contain them."""


def contradictions(text: Text, unread: Collection[str] = ()) -> Iterator[SettingProblem]:
    """Problems of settings that do not fit together.

    It works on the texts of the settings, because another setting may be wrong, and then there are no checked values.
    `text` returns the text of a setting by its name. `unread` are the settings whose files cannot be read; they have a
    problem of their own, and do not count as missing.
    """
    for provider in PROVIDERS:
        yield from _half_configured(provider, text, unread)
        yield from _wrong_redirect(provider, text)
        yield from _sent_twice(provider, text)
        yield from settings_of(provider).contradictions(_texts_of(provider, text))
    if (text("ENVIRONMENT") or "").lower() == Environment.PRODUCTION:
        yield from _forbidden_in_production(text)


def doubts(settings: Settings) -> Iterator[str]:
    """A sentence about every setting that is valid, but that the operator may not have intended."""
    for name, networks, consequence in (
        ("TRUSTED_PROXIES", settings.trusted_proxies, "any client can claim any address, and pass every rate limit"),
        ("METRICS_ALLOW", settings.metrics_allow, "everybody may read /metrics"),
    ):
        if any(network.prefixlen == 0 for network in networks):
            yield f"{name} lists all addresses: {consequence}. List only the addresses that you mean."
    if settings.workers > 1 and settings.rate_limit_enabled and settings.rate_limit_storage_url == "memory://":
        yield (
            f"Each of the {settings.workers} WORKERS counts by itself: clients may ask {settings.workers} times as "
            "often as the limits say. Set RATE_LIMIT_STORAGE_URL to a Redis."
        )
    if not settings.providers:
        yield "No provider is on: nobody can sign in. `nextarget serve --sandbox` needs none."


def _texts_of(provider: Provider, text: Text) -> Text:
    """A function that returns the text of a provider's setting by its field name."""
    return lambda field_name: text(name_of(provider, field_name))


def _half_configured(provider: Provider, text: Text, unread: Collection[str]) -> Iterator[SettingProblem]:
    names = credentials_of(provider)
    missing = [name for name in names if not text(name) and name not in unread]
    if missing and len(missing) < len(names):
        yield SettingProblem(
            ", ".join(missing), "missing.",
            f"{display_name(provider)} is on when all of {', '.join(names)} are set, off when none is.",
        )  # fmt: skip


def _wrong_redirect(provider: Provider, text: Text) -> Iterator[SettingProblem]:
    """A provider has to send the browser back to this server, on the host where the login began. A browser sends the
    cookie of the login only to the same host, on any port (RFC 6265, 8.5). It sends a Secure cookie only over https."""
    ours = _scheme_and_host(text("PUBLIC_URL") or Settings.public_url)
    name, path = name_of(provider, "redirect_uri"), f"/auth/{provider}/callback"
    redirect_uri = text(name)
    theirs = _scheme_and_host(redirect_uri or "")
    if redirect_uri and not redirect_uri.endswith(path):
        yield SettingProblem(name, "does not lead to this server.", f"Write PUBLIC_URL followed by {path}.")
    elif ours is None or theirs is None:
        return  # one of the two is not a URL, which is reported as a problem of that setting
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


def _scheme_and_host(url: str) -> tuple[str, str] | None:
    """Scheme and host of a URL; None for any other text."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname) if parts.scheme and parts.hostname else None


def _sent_twice(provider: Provider, text: Text) -> Iterator[SettingProblem]:
    """A request must not contain a parameter twice (RFC 6749, 3.1)."""
    name = name_of(provider, "authorization_endpoint")
    sent = _SENT | settings_of(provider).sends(_texts_of(provider, text))
    if twice := sorted(parameters_in(text(name)) & sent):
        problem = f"has {', '.join(map(repr, twice))} in its query, which the server sends itself."
        yield SettingProblem(name, problem, "Leave that out; the rest of the query is kept.")


def _forbidden_in_production(text: Text) -> Iterator[SettingProblem]:
    """Settings that are forbidden in production."""
    redirect_uris_of_ours = (name_of(provider, "redirect_uri") for provider in PROVIDERS)
    for name in ("PUBLIC_URL", *redirect_uris_of_ours, "APP_PRIVACY_URL", "APP_TERMS_URL"):
        url = text(name) or ("" if name != "PUBLIC_URL" else Settings.public_url)
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
