"""Pages for people: plain HTML that works without JavaScript. Jinja escapes every variable."""

from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web

from nextarget.errors import ProblemError
from nextarget.model import Client, LogoFile, Millis
from nextarget.web.pages import texts
from nextarget.web.requests import cookies, parameters
from nextarget.web.requests.negotiation import first_spoken, preferred_language

if TYPE_CHECKING:
    from jinja2 import Environment

    from nextarget.web.pages.ways_on import WaysOn

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src {pictures}; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
FROM_ACCOUNT_PAGE = web.RequestKey("from_account_page", bool)
"""Set on a request of the account page, or of a login that began there: an error page leads back to it."""
MARK_STYLES = {path.name: path for path in (Path(__file__).parent / "marks").glob("*.css")}
"""Style sheets for the buttons of providers whose brand guidelines require certain colours, such as `google.css`."""
_OWN_PICTURES = "'self' data:"
_NO_DEVICES = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # an API for apps may never show a page

    loader = PackageLoader("nextarget.web", "pages")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def page(
    template: str,
    request: web.BaseRequest,
    *,
    status: int = 200,
    policy: str = PAGE_POLICY,
    client: Client | None = None,
    **facts: object,
) -> web.Response:
    """Render a template of this folder, with its own Content-Security-Policy.

    The language is that of the login, or else the one that the browser prefers. `client` is the app whose login this
    page belongs to: the page shows its name, logo and links. If the logo is on another host, the policy of this page
    allows its URL.
    """
    language = _language(request)
    say = partial(texts.text, language=language)
    name = client.name if client else None
    logo, pictures = _logo(client)
    rendered = (
        _environment()
        .get_template(template)
        .render(language=language, say=say, name=name, logo=logo, links=client.links if client else None, **facts)
    )
    response = web.Response(text=rendered, status=status, content_type="text/html")
    response.headers["Content-Security-Policy"] = policy.replace("{pictures}", pictures)
    # No Cross-Origin-Opener-Policy: a browser app that opened the sign-in in a popup would lose access to that window.
    response.headers["Permissions-Policy"] = _NO_DEVICES
    response.headers["Content-Language"] = language
    response.headers["Vary"] = "Accept-Language"
    return response


def day(request: web.BaseRequest, moment: Millis) -> str:
    """The day of a moment, in UTC, as people write it: 27 November 2026."""
    language, date = _language(request), datetime.fromtimestamp(moment / 1000, UTC)
    first = "1er" if language == "fr" and date.day == 1 else str(date.day)
    return f"{first} {texts.MONTHS[language][date.month - 1]} {date.year}"


def moment(request: web.BaseRequest, at: Millis) -> str:
    """A moment in UTC, as people write it: 27 November 2026 at 15:04 UTC."""
    time = datetime.fromtimestamp(at / 1000, UTC)
    clock = f"{time.hour}\u00a0h\u00a0{time:%M}" if _language(request) == "fr" else f"{time:%H:%M}"
    return texts.text("moment", _language(request), day=day(request, at), clock=clock)


def account_path(request: web.BaseRequest, path: Literal["/account", "/account/delete"] = "/account") -> str:
    """The path, in the language that was chosen for this request."""
    language = settled_language(request)
    return f"{path}?ui_locales={language}" if language else path


def error_page(error: ProblemError, request: web.BaseRequest, request_id: str, ways: "WaysOn") -> web.Response:
    """A page for a person whose sign-in failed: what went wrong, what to do next, and the links to do it."""
    client, language = ways.client, _language(request)
    place = texts.text("account_place", language) if ways.account else client.name if client else None
    said = texts.error_texts(error, language, place, repeatable=ways.again is not None)
    facts: dict[str, Any] = {"error": error, "said": said, "request_id": request_id, "ways": ways}
    return page("error.html", request, status=error.status, client=client, **facts)


def bounce_page(request: web.BaseRequest, client: Client, link: str, error: ProblemError | None = None) -> web.Response:
    """A page with a button to the app, for browsers that open a program only after a tap.

    `link` holds the answer to the app, a code or an error, so the page must stay out of caches and referrers.
    """
    language, name = _language(request), client.name
    if error is None:
        title = texts.text("bounce_title", language)
        lead = texts.text("bounce_lead_named", language, name=name) if name else texts.text("bounce_lead", language)
    else:
        said = texts.error_texts(error, language, name)
        title, lead = said.title, said.explanation
    failed = error is not None
    return page("bounce.html", request, client=client, title=title, lead=lead, link=link, failed=failed)


def _logo(client: Client | None) -> tuple[str | None, str]:
    """The URL of an app's logo, and the `img-src` sources that allow it (CSP Level 3, 6.7.2.8).

    A source must not contain a query. Characters that separate sources or directives are percent-encoded.
    """
    if client is None or client.logo is None:
        return None, _OWN_PICTURES
    if isinstance(client.logo, LogoFile):
        return f"/logos/{client.logo.digest}", _OWN_PICTURES
    source = client.logo.partition("?")[0].replace(";", "%3B").replace(",", "%2C")
    return client.logo, f"{_OWN_PICTURES} {source}"


def chosen_language(request: web.BaseRequest) -> str | None:
    """The language that the app chose with `ui_locales`, if we have it."""
    chosen = request.query.getall("ui_locales", [])
    return first_spoken(chosen[0], texts.LANGUAGES) if len(chosen) == 1 else None


def settled_language(request: web.BaseRequest) -> str | None:
    """The language that the app chose, now or when the login began, if we have it."""
    language = chosen_language(request) or chosen_language_of_login(request)
    return language if language in texts.LANGUAGES else None


def _language(request: web.BaseRequest) -> str:
    """The language that was chosen; otherwise the one that the browser prefers."""
    return settled_language(request) or preferred_language(request, texts.LANGUAGES)


def chosen_language_of_login(request: web.BaseRequest) -> str | None:
    """The language in the login's cookie, with or without the `__Host-` prefix.

    The settings say which of the two names is used, but a request that is refused before routing has no application and
    so no settings.
    """
    states = request.query.getall("state", [])
    if not isinstance(request, web.Request) or len(states) != 1 or not parameters.STATE.fullmatch(states[0]):
        return None
    found = (cookies.login_language(request, states[0], secure=secure) for secure in (True, False))
    return next(filter(None, found), None)
