"""What an operator does with users, without the terminal."""

import pytest

from nextarget.model import Identity, Millis, Provider, User
from nextarget.services import accounts
from nextarget.services.operator import users
from nextarget.services.operator.users import UserFilter, list_users
from nextarget.storage.engines.database import Database
from tests.services.conftest import START


@pytest.fixture
def made(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[User]:
    """More users than fit two pages, oldest first, of two providers in turn."""
    monkeypatch.setattr(users, "PAGE", 3)
    found = []
    for number in range(8):
        provider = Provider(("google", "facebook")[number % 2])
        who = Identity(provider, str(number), f"{number}@x.example", email_verified=True)
        found.append(database.write_now(accounts.admit, who, now=Millis(START + number)))
    return found


@pytest.mark.parametrize("limit", [None, 1, 3, 4, 8, 9])
def test_users_are_listed_page_by_page_in_order(database: Database, made: list[User], limit: int | None) -> None:
    """Every user once, as many as the limit allows, oldest or newest first."""
    assert list(list_users(database, UserFilter(), limit=limit)) == made[:limit]
    assert list(list_users(database, UserFilter(), newest=True, limit=limit)) == made[::-1][:limit]


def test_only_the_users_that_fit_are_listed(database: Database, made: list[User]) -> None:
    """By provider, by email, and whether they are deactivated."""
    database.write_now(accounts.set_active, made[5], active=False, now=START)
    facebook = [user.id for user in list_users(database, UserFilter(provider=Provider("facebook")))]
    assert facebook == [user.id for user in made[1::2]]
    assert [user.id for user in list_users(database, UserFilter(inactive=True))] == [made[5].id]
    assert [user.id for user in list_users(database, UserFilter(email="2@*"))] == [made[2].id]


def test_a_filter_is_true_when_it_leaves_users_out() -> None:
    """The terminal says that no user fits only when there is a filter."""
    assert not UserFilter()
    assert all((UserFilter(provider=Provider("google")), UserFilter(inactive=True), UserFilter(email="*")))
