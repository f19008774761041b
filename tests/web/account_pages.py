"""A person at the account page: signs in there, reads the page, and sends its forms."""

import re
from dataclasses import dataclass
from html import unescape

from nextarget.registry import PROVIDERS
from tests.apps import links_of
from tests.running import Answer, Browser

VISIT_COOKIE = "nextarget-account"
PAGE = {"Accept": "text/html"}


def shown(answer: Answer) -> str:
    """The text of a page, with single spaces."""
    text = unescape(re.sub(r"<[^>]*>", " ", answer.text.partition("<main>")[2]))
    return " ".join(text.split(None))


def form_token_of(answer: Answer) -> str:
    """The token of the page's forms, which is the same in all of them."""
    (token,) = set(re.findall(r'name="token" value="([A-Za-z0-9_-]{43})"', answer.text))
    return token


def session_ids_of(answer: Answer) -> list[str]:
    return re.findall(r'name="session_id" value="([^"]+)"', answer.text)


def visit_cookie_of(answer: Answer) -> str:
    """The value of the visit's cookie that an answer sets."""
    (found,) = [
        field for field in answer.headers.getall("Set-Cookie") if field.partition("=")[0].endswith(VISIT_COOKIE)
    ]
    return found.partition("=")[2].partition(";")[0]


@dataclass
class Visitor:
    browser: Browser

    async def get(self, path: str = "/account", **headers: str) -> Answer:
        return await self.browser.get(path, headers=PAGE | headers)

    async def begin(self, provider: str = "google", path: str = "/account") -> str:
        """The URL of the provider's page, from the link on our page."""
        answer = await self.get(path)
        assert answer.status == 200, answer.text
        links = [link for link in links_of(answer.text) if "state=" in link]
        return dict(zip(PROVIDERS, links, strict=True))[provider]  # type: ignore[call-overload]

    async def approve(self, provider: str = "google", person: str = "ada", path: str = "/account") -> str:
        """Sign in at the provider. Return the URL of the callback."""
        return await self.browser.approve(await self.begin(provider, path), person=person)

    async def sign_in(self, provider: str = "google", person: str = "ada", path: str = "/account") -> Answer:
        """Sign in at the page. Return the callback's answer."""
        return await self.browser.get(await self.approve(provider, person, path), headers=PAGE)

    async def send(self, form: dict[str, str], path: str = "/account", **headers: str) -> Answer:
        """Send a form with the page's token, unless the form has one."""
        if "token" not in form:
            form = form | {"token": form_token_of(await self.get())}
        return await self.browser.ask("POST", path, data=form, headers=PAGE | headers)
