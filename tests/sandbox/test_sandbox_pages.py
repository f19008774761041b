"""The sandbox's own pages, its people and its limited memory."""

import re
from importlib.resources import files

import pytest
from aiohttp import web

from nextarget.model import MAX_EMAIL_LENGTH
from nextarget.registry import PROVIDERS
from nextarget.sandbox.app import attach, profile_page
from nextarget.sandbox.people import CAST, FAULTS, PEOPLE, Fault
from nextarget.sandbox.standins.grants import BoundedStore

PROFILE = {
    "id": "0b3c6f9e-3d0f-4a53-9b7e-0d9f4f1a2b3c",
    "email": '"<b>bobby</b>"@tables.example',
    "email_verified": False,
    "provider": "facebook",
    "is_active": True,
    "created_at": "2030-01-01T00:00:00Z",
}


async def test_the_home_page_offers_every_provider_and_a_way_for_programs(client):
    """The page has a link for every provider, and a command for a sign-in without a browser."""
    answer = await client.get("/")
    assert answer.status == 200
    text = await answer.text()
    for provider in PROVIDERS:
        assert f'href="/auth/{provider}/start?mode=redirect"' in text
    assert 'href="/docs"' in text
    assert 'href="/account"' in text
    assert 'curl -s "http://127.0.0.1:8000/auth/google/start"' in text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_the_home_page_shows_how_an_app_does_without_a_phone(client):
    """A developer finds the stand-in SDKs on the home page."""
    text = await (await client.get("/")).text()
    for path in ("google/sdk?person=ada", "facebook/sdk?person=ada&amp;kind=limited", "apple/sdk?person=ada"):
        assert f"http://127.0.0.1:8000/sandbox/{path}" in text


async def test_the_style_sheet_is_served_from_here_and_loads_nothing(client):
    """The pages' policy allows only styles from the same origin."""
    answer = await client.get("/sandbox/style.css")
    assert answer.content_type == "text/css"
    assert "url(" not in await answer.text()


def test_the_profile_page_shows_the_user_and_escapes_everything():
    """Values come from a provider, so all values are escaped. The token is inside a details element."""
    page = profile_page(PROFILE, "token-<i>", "http://127.0.0.1:8000")
    assert page.status == 200
    assert page.headers["Cache-Control"] == "no-store"
    text = page.text
    assert "<b>bobby" not in text
    assert "&lt;b&gt;bobby" in text
    assert "token-<i>" not in text
    assert text.index("<details>") < text.index("token-&lt;i&gt;")
    assert "Authorization: Bearer token-&lt;i&gt;" in text
    assert "http://127.0.0.1:8000/users/me" in text
    assert 'href="/auth/facebook/start?mode=redirect"' in text
    for value in (PROFILE["id"], "Facebook", "1 January 2030, 00:00 UTC", "<dd>no</dd>", "<dd>yes</dd>"):
        assert value in text


def test_the_profile_page_does_without_missing_values():
    """The page can show a profile without a field."""
    assert profile_page({}, "token", "http://127.0.0.1:8000").status == 200


def test_no_page_has_script_inline_style_or_anything_from_elsewhere():
    """The content security policy would block such content."""
    for template in files("nextarget.sandbox").joinpath("pages").iterdir():
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|https?://|//\w", text), template.name


def test_every_route_has_a_name(config):
    """Links and tests find routes by name."""
    app = web.Application()
    attach(app, config)
    names = {resource.name for resource in app.router.resources()}
    assert None not in names
    assert {"sandbox-home", "sandbox-google-authorize", "sandbox-facebook-me"} <= names


@pytest.mark.parametrize("provider", PROVIDERS)
def test_subjects_are_unique_and_look_like_the_providers(provider):
    """A Google subject has 21 digits, a Facebook subject 15 to 17. Apple's has three parts with full stops between."""
    subjects = [person.subject(provider) for person in CAST if provider in person.providers]
    assert len(set(subjects)) == len(subjects)
    shapes = {"google": r"\d{21}", "facebook": r"\d{15,17}", "apple": r"\d{6}\.[0-9a-f]{32}\.\d{4}"}
    assert all(re.fullmatch(shapes[provider], subject) for subject in subjects)


def test_the_longest_email_is_exactly_as_long_as_one_can_be():
    """RFC 5321, 4.5.3.1: 64 characters before the at sign, 254 in all."""
    email = PEOPLE["max"].email
    assert len(email) == MAX_EMAIL_LENGTH
    assert len(email.partition("@")[0]) == 64


def test_every_fault_is_explained_once():
    """The page and the documentation take their lists from here."""
    assert [script.fault for script in FAULTS] == sorted(Fault, key=[script.fault for script in FAULTS].index)
    assert len(FAULTS) == len(Fault)


def test_a_store_drops_the_oldest_when_full_and_the_expired_always(clock):
    """The memory is limited for any number of calls."""
    store = BoundedStore(lifetime=10, now=clock, capacity=3)
    for key in "abcd":
        store.put(key, key)
    assert [store.get(key) for key in "abcd"] == [None, "b", "c", "d"]
    clock.seconds += 10
    assert store.get("d") is None
    store.put("e", "e")
    assert len(store) == 1
