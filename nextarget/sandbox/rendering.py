"""Renders the sandbox's web pages: plain HTML and one style sheet, without scripts and without files of other sites."""

from importlib.resources import files

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

PAGE_HEADERS = {
    # No form-action: Chromium would apply it also to the redirect that follows the form of the account page.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_environment = Environment(
    loader=PackageLoader("nextarget.sandbox", "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, *, status: int = 200, **values: object) -> web.Response:
    """A page from a template in `pages/`. It must not be cached, or shown in a frame."""
    text = _environment.get_template(template).render(values)
    return web.Response(text=text, status=status, content_type="text/html", headers=PAGE_HEADERS)


def style_sheet() -> str:
    return files("nextarget.sandbox").joinpath("pages", "style.css").read_text(encoding="utf-8")
