"""Renders the sandbox's web pages: plain HTML and one style sheet, without scripts and without files of other sites."""

from importlib.resources import files

from aiohttp import web
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from nextarget.model import Provider

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
    loader=ChoiceLoader([PackageLoader("nextarget.sandbox", "pages"), PackageLoader("nextarget.web", "pages/marks")]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, *, status: int = 200, **values: object) -> web.Response:
    """A page from a template in `pages/`. It must not be cached, or shown in a frame."""
    text = _environment.get_template(template).render(values)
    return web.Response(text=text, status=status, content_type="text/html", headers=PAGE_HEADERS)


def has_mark_style(provider: Provider) -> bool:
    """Whether the server's own pages have a style for the provider's button, at `/static/{provider}.css`."""
    return files("nextarget.web").joinpath("pages", "marks", f"{provider}.css").is_file()


def style_sheet() -> str:
    return files("nextarget.sandbox").joinpath("pages", "style.css").read_text(encoding="utf-8")
