"""Pages for people. Plain HTML that works without JavaScript; everything that varies is escaped by Jinja."""

from functools import cache

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from nextarget.errors import ProblemError

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


@cache
def _environment() -> Environment:
    loader = PackageLoader("nextarget.web", "pages")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def page(template: str, *, status: int = 200, policy: str = PAGE_POLICY, **facts: object) -> web.Response:
    """Render a template of this folder with its own Content-Security-Policy."""
    text = _environment().get_template(template).render(**facts)
    response = web.Response(text=text, status=status, content_type="text/html")
    response.headers["Content-Security-Policy"] = policy
    return response


def error_page(error: ProblemError, request_id: str) -> web.Response:
    """What went wrong and what to do next, for a person."""
    return page("error.html", status=error.status, error=error, request_id=request_id)
