"""The texts of error pages: every error has texts for people, in all of our languages."""

import pytest

from nextarget.errors import ProblemError, problem_types
from nextarget.web.pages import texts

SEEN_BY_PEOPLE = {
    "login_expired", "sign_in_ended", "rate_limited", "prefetch_refused", "header_fields_too_large",
    "invalid_request", "invalid_state", "provider_refused", "access_denied", "user_deactivated",
    "provider_not_configured", "provider_failed", "identity_rejected", "provider_unavailable",
    "database_unavailable", "redirect_refused", "internal_error", "payload_too_large", "request_timeout",
    "not_found", "deletion_unknown", "visit_ended", "form_refused",
}  # fmt: skip
"""Codes that a page can show, on routes that browsers open."""


@pytest.mark.parametrize("kind", tuple(problem_types()))
def test_every_error_has_words_for_a_person(kind: type[ProblemError]) -> None:
    """The texts say what happened and what to do. A page never has only the text for developers."""
    error = kind.__new__(kind)
    ProblemError.__init__(error)
    english, french = (texts.error_texts(error, language) for language in ("en", "fr"))
    for said in (english, french):
        assert said.title
        assert said.explanation.endswith(".")
        assert said.next_step.endswith(".")
        assert said.technical in {None, error.detail}
    assert english.title != french.title
    assert english.explanation != french.explanation
    assert english.next_step != french.next_step
    for technical in ("parameter", "/openapi.json", "header", "GET "):
        assert technical not in english.explanation
    if kind.retryable:
        assert "minute" in english.next_step
        assert "minute" in french.next_step


def test_every_error_that_people_see_is_one_that_there_is() -> None:
    """Every code in the table exists. After a renaming, a page would show the texts of another error."""
    codes = {kind.code for kind in problem_types()}
    assert codes >= SEEN_BY_PEOPLE
    assert texts.FRENCH.keys() <= SEEN_BY_PEOPLE
    assert SEEN_BY_PEOPLE - texts.FRENCH.keys() == {"invalid_request", "payload_too_large", "request_timeout"}
