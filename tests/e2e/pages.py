"""Every page that the server shows to people, and how a person gets there.

A page is named by its template; what follows a colon tells its variants apart. `test_accessibility.py` checks every
page of this list, and fails if a template or a route of pages is missing here.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from nextarget.errors import ProblemError, problem_types
from nextarget.model import Millis
from nextarget.providers.http.breaker import FAILURES
from nextarget.web.app_keys import ONLINE
from nextarget.web.boundary import PAGE_ROUTES
from tests.apps import App
from tests.e2e.conftest import Person
from tests.logos import SVG
from tests.running import Server, query_of
from tests.web.test_removals import send, signed
from tests.web.test_words_for_errors import SEEN_BY_PEOPLE

Visit = Callable[[Person, Server], Awaitable[None]]

PHONE_APP = "org.example.phone:/callback"
APPS = f"""
[[app]]
client_id = "phone"
redirect_uris = ["{PHONE_APP}"]
name = "The app with the longest name that an app can have: 60 here."
logo = "logo.svg"
privacy_url = "https://phone.example/privacy"
terms_url = "https://phone.example/terms"
bounce_page = true
"""
PARTS = {"base.html", "choices.html", "marks.html"}
"""Templates that other templates use, and that are no pages by themselves."""
SHOWN_ELSEWHERE = {"posted-callback", "sandbox-facebook-dialog-unversioned"}
"""Routes whose pages are those of another route."""


def settings_of(folder: Path) -> dict[str, str]:
    """The settings of a server that can show every page."""
    (folder / "logo.svg").write_bytes(SVG)
    (folder / "apps.toml").write_text(APPS, encoding="utf-8")
    return {"APPS_FILE": str(folder / "apps.toml")}


def phone_app(server: Server) -> App:
    return App(server, PHONE_APP, "phone")


def at(path: str) -> Visit:
    async def visit(person: Person, _server: Server) -> None:
        await person.open(path)

    return visit


def failing(kind: type[ProblemError]) -> Visit:
    """The page about an error: the start of a login raises it."""

    async def visit(person: Person, server: Server) -> None:
        def fail(*_arguments: object, **_named: object) -> None:
            error = kind.__new__(kind)
            ProblemError.__init__(error)
            raise error

        server.app[ONLINE].sign_in.begin = fail  # type: ignore[method-assign, assignment]
        await person.open("/auth/google/start?mode=redirect")

    return visit


async def press(person: Person, what: str) -> None:
    """Press what leads to another page, and wait for that page."""
    async with person.page.expect_navigation():
        await person.page.click(what)


async def choose(person: Person, server: Server) -> None:
    await person.open(phone_app(server).request(provider=None))


async def choose_while_one_fails(person: Person, server: Server) -> None:
    for _ in range(FAILURES):
        await server.sign_in("facebook", fault="error_500")
    await choose(person, server)


async def continue_to_facebook(person: Person, server: Server) -> None:
    await person.open(App(server).request(provider="facebook"))


async def before_the_app(person: Person, server: Server) -> None:
    await person.open(phone_app(server).request())
    await press(person, "text=Ada Lovelace")


async def before_the_app_with_an_error(person: Person, server: Server) -> None:
    await person.open(phone_app(server).request())
    await press(person, "text=Cancel")


async def finished_for_an_app(person: Person, server: Server) -> None:
    await before_the_app(person, server)
    await person.page.reload()


async def finished(person: Person, server: Server) -> None:
    await profile(person, server)
    await person.page.reload()


async def deletion(person: Person, server: Server) -> None:
    await person.page.goto((await send(server, "deletion", signed(server))).json["url"])


async def cancelled(person: Person, _server: Server) -> None:
    await person.open("/auth/google/start?mode=redirect")
    await press(person, "text=Cancel")


async def too_late(person: Person, server: Server) -> None:
    await person.open("/auth/google/start?mode=redirect")
    expires_at = int(query_of(person.page.url)["state"].split(".")[1])
    server.app[ONLINE].sign_in._outcomes._clock = lambda: Millis(expires_at + 1)
    await press(person, "text=Ada Lovelace")


async def ours_with_the_way_back(person: Person, server: Server) -> None:
    async def fail(*_arguments: object, **_named: object) -> None:
        raise RuntimeError

    await person.open(phone_app(server).request())
    server.app[ONLINE].sign_in.finish = fail  # type: ignore[method-assign, assignment]
    await press(person, "text=Ada Lovelace")


async def profile(person: Person, _server: Server) -> None:
    await person.open("/auth/google/start?mode=redirect")
    await press(person, "button[value=max]")
    await person.page.click("summary")


async def answer_to_post(person: Person, _server: Server) -> None:
    await person.open("/auth/apple/start?mode=redirect")
    await press(person, "text=Ada Lovelace")


def account(path: str, name: str = "Ada Lovelace") -> Visit:
    """A page of the account page, after a sign-in there. Ada has an account."""

    async def visit(person: Person, server: Server) -> None:
        await server.sign_in("google", person="ada")
        await person.open("/account")
        await press(person, "a.choice.google")
        await press(person, f"text={name}")
        if path != "/account":
            await person.open(path)

    return visit


async def documentation(person: Person, _server: Server) -> None:
    await person.open("/docs")
    await person.page.locator(".opblock").last.wait_for()
    await person.page.locator("[id$='-authorize'] .opblock-summary-control").click()
    await person.page.locator("[id$='-token'] .opblock-summary-control").click()
    await person.page.locator("[id$='-token'] .try-out__btn").click()
    await person.page.locator(".opblock .execute").wait_for()


PAGES: dict[str, tuple[str, Visit]] = {
    "web/choose.html": ("authorize", choose),
    "web/choose.html:one": ("authorize", continue_to_facebook),
    "web/choose.html:off": ("authorize", choose_while_one_fails),
    "web/bounce.html": ("callback", before_the_app),
    "web/bounce.html:error": ("callback", before_the_app_with_an_error),
    "web/account_sign_in.html": ("account", at("/account")),
    "web/account_sign_in.html:deleting": ("account-delete", at("/account/delete")),
    "web/account_none.html": ("callback", account("/account", "Alan Turing")),
    "web/account.html": ("account", account("/account")),
    "web/account_delete.html": ("account-delete", account("/account/delete")),
    "web/finished.html": ("callback", finished),
    "web/finished.html:app": ("callback", finished_for_an_app),
    "web/deletion.html": ("deletion", deletion),
    "web/docs.html": ("docs", documentation),
    "web/error.html:again": ("callback", cancelled),
    "web/error.html:late": ("callback", too_late),
    "web/error.html:back": ("callback", ours_with_the_way_back),
    "web/error.html:unknown app": ("authorize", at("/auth/authorize?client_id=x")),
    "web/error.html:for developers": ("start", at("/auth/google/start?mode=" + "x" * 2000)),
    "sandbox/home.html": ("sandbox-home", at("/")),
    "sandbox/accounts.html": ("sandbox-google-authorize", at("/auth/google/start?mode=redirect")),
    "sandbox/accounts.html:other": ("sandbox-facebook-dialog", at("/auth/facebook/start?mode=redirect")),
    "sandbox/accounts.html:posts": ("sandbox-apple-authorize", at("/auth/apple/start?mode=redirect")),
    "sandbox/form_post.html": ("sandbox-apple-authorize", answer_to_post),
    "sandbox/refused.html": ("sandbox-google-authorize", at("/sandbox/google/authorize?client_id=x")),
    "sandbox/profile.html": ("callback", profile),
} | {f"web/error.html:{kind.code}": ("start", failing(kind)) for kind in problem_types() if kind.code in SEEN_BY_PEOPLE}
"""The name of the route that shows the page, and how a person gets there."""

ROUTES = {route for route, _ in PAGES.values()} | SHOWN_ELSEWHERE
"""The routes whose pages are checked."""
ROUTES_OF_PAGES = PAGE_ROUTES
