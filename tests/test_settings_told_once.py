"""A problem of a setting is reported once, with the remedy that mends it and no harmful one."""

import pytest

from nextarget.errors import ConfigurationError
from nextarget.settings import file_settings, read_values
from tests.serving import SECRET
from tests.test_settings import APPLE, FACEBOOK, GOOGLE, OURS, problems, settings


@pytest.mark.parametrize("name", sorted(file_settings()))
@pytest.mark.parametrize("written", ["nowhere", '"nowhere"'])
def test_a_file_that_cannot_be_read_is_one_problem(tmp_path, name, written):
    """The secret is not called missing too: the remedy for that makes a new secret, which would sign everyone out."""
    environ = {"JWT_SECRET_KEY": SECRET, **OURS, **GOOGLE, **FACEBOOK, **APPLE}
    environ.pop(name, None)
    with pytest.raises(ConfigurationError) as caught:
        read_values(tmp_path, environ={**environ, f"{name}_FILE": written}).settings()
    assert [problem.setting for problem in caught.value.problems] == [f"{name}_FILE"]


def test_what_else_a_provider_lacks_is_told_beside_a_file_that_cannot_be_read(tmp_path):
    """The redirect URI is reported as missing, and the file as unreadable. The value in the file is not reported as
    missing."""
    environ = {"JWT_SECRET_KEY": SECRET, "GOOGLE_CLIENT_ID": "1234-abc", "GOOGLE_CLIENT_SECRET_FILE": "nowhere"}
    assert problems(tmp_path, environ).keys() == {"GOOGLE_CLIENT_SECRET_FILE", "GOOGLE_REDIRECT_URI"}


@pytest.mark.parametrize("name", ["TRUSTED_PROXIES", "METRICS_ALLOW", "APP_REDIRECT_URIS", "CORS_ALLOW_ORIGINS"])
@pytest.mark.parametrize("text", ["http://*.a", "http://*.a,http://*.b"])
def test_the_same_problem_of_one_setting_is_told_once(tmp_path, name, text):
    """An address has two valid forms, and a list may have the same mistake twice, but there is one problem."""
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, **{name: text})
    assert [problem.setting for problem in caught.value.problems] == [name]


def test_a_list_of_googles_client_ids_is_no_remedy_for_facebooks(tmp_path):
    """Facebook has one client ID, and no setting for more."""
    found = problems(tmp_path, {"JWT_SECRET_KEY": SECRET, **OURS, **FACEBOOK, "FACEBOOK_CLIENT_ID": "1,2"})
    assert found["FACEBOOK_CLIENT_ID"].remedy == "Name one."
    found = problems(tmp_path, {"JWT_SECRET_KEY": SECRET, **OURS, **GOOGLE, "GOOGLE_CLIENT_ID": "1,2"})
    assert "GOOGLE_CLIENT_IDS" in found["GOOGLE_CLIENT_ID"].remedy
