"""The sandbox's web pages: plain HTML and one style sheet, no script, nothing from elsewhere."""

from importlib.resources import files

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

PAGE_HEADERS = {
    # No form-action: Chromium would hold it against the redirect that follows the account page's form.
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
    """One of `pages/`, as an answer that no cache keeps and no frame shows."""
    text = _environment.get_template(template).render(values)
    return web.Response(text=text, status=status, content_type="text/html", headers=PAGE_HEADERS)


def style_sheet() -> str:
    return files("nextarget.sandbox").joinpath("pages", "style.css").read_text(encoding="utf-8")
