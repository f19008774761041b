"""Settings that depend on each other, settings that take words, and valid settings that deserve a warning."""

import pytest

from nextarget.settings import doubts, every_setting
from tests.serving import SECRET
from tests.test_settings import FACEBOOK, GOOGLE, OURS, problems, settings, value_of


@pytest.mark.parametrize(
    ("ours", "theirs", "fits"),
    [
        ("https://auth.example.org", "https://auth.example.org:8443", True),
        ("https://auth.example.org:8443", "https://auth.example.org", True),
        ("https://auth.example.org", "https://AUTH.example.org", True),
        ("http://127.0.0.1:8000", "http://127.0.0.1:9000", True),
        ("http://[::1]:8000", "http://[::1]", True),
        ("http://127.0.0.1", "https://127.0.0.1", True),
        ("https://auth.example.org", "https://example.org", False),
        ("https://example.org", "https://auth.example.org", False),
        ("http://127.0.0.1:8000", "http://localhost:8000", False),
        ("http://127.0.0.1", "http://[::1]", False),
        ("https://localhost", "http://localhost", False),
    ],
)
@pytest.mark.parametrize("provider", [GOOGLE, FACEBOOK])
def test_the_person_comes_back_to_the_host_where_the_login_began(tmp_path, provider, ours, theirs, fits):
    """A browser keeps the login's cookie for one host, whatever the port, and sends a Secure cookie only over https."""
    (name,) = (name for name in provider if name.endswith("_REDIRECT_URI"))
    path = provider[name].removeprefix(OURS["PUBLIC_URL"])
    found = problems(tmp_path, {"JWT_SECRET_KEY": SECRET, **provider, "PUBLIC_URL": ours, name: theirs + path})
    assert set(found) == (set() if fits else {name})


@pytest.mark.parametrize("name", [name for name, setting in every_setting().items() if setting.words])
@pytest.mark.parametrize("case", [str.lower, str.upper, str.capitalize, str.swapcase])
def test_a_word_out_of_a_list_is_taken_in_any_case(tmp_path, name, case):
    """This holds for every setting whose type is a list of words, also for booleans. The case does not change the
    value."""
    for word in every_setting()[name].words:
        given = {**OURS, **FACEBOOK, name: word}
        as_written = value_of(settings(tmp_path, **given), name)
        assert value_of(settings(tmp_path, **given | {name: case(word)}), name) == as_written


def test_settings_that_take_words_are_found_by_their_type():
    """The search finds settings with a fixed list of words, and no setting that also takes other text."""
    words = {name: setting.words for name, setting in every_setting().items() if setting.words}
    assert words["ENVIRONMENT"] == ("development", "production")
    assert words["LOG_FORMAT"] == ("console", "json")
    assert words["JSON_FLOW"] == words["FACEBOOK_PKCE"] == ("true", "false")
    assert {"LOG_LEVEL", "JWT_ALGORITHM", "RATE_LIMIT_ENABLED"} <= words.keys()
    assert not {"HOST", "PORT", "JWT_AUDIENCE", "APP_REDIRECT_URIS", "TRUSTED_PROXIES"} & words.keys()


@pytest.mark.parametrize("name", [name for name, setting in every_setting().items() if setting.words])
def test_what_is_none_of_the_words_is_told_all_of_them(tmp_path, name):
    """The remedy lists all words that the setting takes."""
    found = problems(tmp_path, {"JWT_SECRET_KEY": SECRET, name: "\u212aind"})
    assert all(word in found[name].remedy for word in every_setting()[name].words)


@pytest.mark.parametrize(
    ("name", "text", "doubtful"),
    [
        ("TRUSTED_PROXIES", "0.0.0.0/0", True),
        ("TRUSTED_PROXIES", "10.0.0.0/8,::/0", True),
        ("TRUSTED_PROXIES", "10.0.0.0/8,fd00::/8", False),
        ("METRICS_ALLOW", "0.0.0.0/0", True),
        ("METRICS_ALLOW", "10.0.0.0/8", False),
    ],
)
def test_a_list_of_every_address_there_is_is_doubted(tmp_path, name, text, doubtful):
    """Such a list is allowed, but seldom intended, so the server warns."""
    said = list(doubts(settings(tmp_path, **{name: text})))
    assert any(sentence.startswith(f"{name} ") for sentence in said) is doubtful
