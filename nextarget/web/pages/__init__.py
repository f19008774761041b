"""Pages for people. Plain HTML that works without JavaScript; everything that varies is escaped by Jinja."""

from functools import cache, partial

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from nextarget.errors import ProblemError
from nextarget.web.negotiation import preferred_language
from nextarget.web.pages import texts

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_NO_DEVICES = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


@cache
def _environment() -> Environment:
    loader = PackageLoader("nextarget.web", "pages")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def page(
    template: str, request: web.BaseRequest, *, status: int = 200, policy: str = PAGE_POLICY, **facts: object
) -> web.Response:
    """Render a template of this folder, in the reader's language, with its own Content-Security-Policy."""
    language = preferred_language(request, texts.LANGUAGES)
    say = partial(texts.text, language=language)
    rendered = _environment().get_template(template).render(language=language, say=say, **facts)
    response = web.Response(text=rendered, status=status, content_type="text/html")
    response.headers["Content-Security-Policy"] = policy
    # No Cross-Origin-Opener-Policy: a browser app that opened the sign-in in a window would lose hold of it.
    response.headers["Permissions-Policy"] = _NO_DEVICES
    response.headers["Content-Language"] = language
    response.headers["Vary"] = "Accept-Language"
    return response


def error_page(error: ProblemError, request: web.BaseRequest, request_id: str) -> web.Response:
    """What went wrong and what to do next, for a person."""
    said = texts.error_texts(error, preferred_language(request, texts.LANGUAGES))
    return page("error.html", request, status=error.status, error=error, said=said, request_id=request_id)
