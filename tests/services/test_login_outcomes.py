"""What the log gets of a login that succeeded or failed."""

import pytest
from structlog.testing import capture_logs

from nextarget.errors import ProviderUnavailable, UserDeactivated
from nextarget.model import LoginMode, Provider
from nextarget.services import accounts, login_outcomes
from nextarget.services.signin import SignIn
from nextarget.storage.engines.database import Database
from nextarget.telemetry import get_logger, login_id
from nextarget.tokens.login import login_id as id_of
from tests.services.conftest import ADA, SECRET, Clock, Vouching
from tests.services.test_signin import APP, Making, answer, begun, fails


@pytest.fixture
def signin(node: Making) -> SignIn:
    return node(SECRET).signin


async def test_a_failure_is_one_warning_that_says_all_that_is_known(
    node: Making, google: Vouching, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Provider, code and reason always; the user and the app when they are known. The refusal is marked as logged."""
    monkeypatch.setattr(login_outcomes, "log", get_logger())  # the module's own has settled on where it writes
    service = node(SECRET).signin
    user = database.write_now(accounts.admit, ADA, now=clock.now)
    database.write_now(accounts.set_active, user, active=False, now=clock.now)
    app = service.begin(Provider("google"), LoginMode.APP, app=APP)
    with capture_logs() as lines:
        assert (await fails(service, answer(await begun(service)))).logged
        await service.finish(Provider("google"), answer(app.state), cookie=app.cookie)
        google.says = ProviderUnavailable(note="status 503")
        await fails(service, answer(await begun(service)))
    line = {"event": "login_failed", "log_level": "warning", "provider": "google"}
    deactivated = {"code": "user_deactivated", "reason": UserDeactivated.title, "user_id": user.id}
    assert lines == [
        line | deactivated,
        line | deactivated | {"client_id": "app"},
        line | {"code": "provider_unavailable", "reason": "status 503"},
    ]


async def test_a_success_is_one_line_of_the_log(signin: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the session, if there is one: a login of an app has only a code so far."""
    monkeypatch.setattr(login_outcomes, "log", get_logger())  # the module's own has settled on where it writes
    app = signin.begin(Provider("google"), LoginMode.APP, app=APP)
    with capture_logs() as lines:
        done = await signin.finish(Provider("google"), answer(await begun(signin)), cookie=None)
        await signin.finish(Provider("google"), answer(app.state), cookie=app.cookie)
    line = {"event": "login_succeeded", "log_level": "info", "provider": "google", "user_id": done.user.id}
    assert lines == [line | {"session_id": done.session.id}, line]


async def test_a_login_has_its_id_for_the_log_from_its_beginning(signin: SignIn) -> None:
    """The same id at both ends, in the lines of both requests."""
    login_id.set(None)
    login = signin.begin(Provider("google"), LoginMode.REDIRECT)
    assert login_id.get() == id_of(login.state)
    login_id.set(None)
    await signin.finish(Provider("google"), answer(login.state), cookie=login.cookie)
    assert login_id.get() == id_of(login.state)
