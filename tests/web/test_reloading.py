"""Reading the settings again on SIGHUP, in the parent of the workers. `test_workers` has the tests with processes."""

import socket

from structlog.testing import capture_logs

from nextarget.model import Secret
from nextarget.settings import Settings
from nextarget.web.server import arbiter
from tests.serving import SECRET


def test_a_fault_while_the_settings_are_read_changes_nothing() -> None:
    """Otherwise the parent would end, and all workers with it. The log has the type of the error. It does not have the
    text, which may contain a value of a setting."""

    def load() -> Settings:
        raise LookupError(SECRET)

    settings = Settings(jwt_secret_key=Secret(SECRET))
    with socket.socket() as listener, capture_logs() as logged:
        workers = arbiter._Workers(settings, load, lambda _url: None, listener)
        assert not workers.read_again()
    assert workers.settings is settings
    detail = "Internal error (LookupError)."
    assert logged == [{"event": "reload_refused", "log_level": "error", "detail": detail}]
