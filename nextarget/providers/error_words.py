"""Error words from the standards. The log may show them, although some are as long as a token.

A word with fewer than 16 characters never counts as a token; the list is complete and has the short words too. A
provider adds its own words (`error_words`).
"""

import re

from nextarget.telemetry import scrubbed

_SHOWABLE = re.compile(r"(?!.*(?:@|%40))(?!.*[\w\-.~+=|%]{41})[\x21-\x7e][\x20-\x7e]{0,199}", re.ASCII)
"""One line without an email address, and without a word so long that it may be a token."""

STANDARD_WORDS = frozenset(
    {
        "access_denied",
        "account_selection_required",
        "consent_required",
        "interaction_required",
        "invalid_request_object",
        "invalid_request_uri",
        "login_required",
        "registration_not_supported",
        "request_not_supported",
        "request_uri_not_supported",
        "temporarily_unavailable",
        "unauthorized_client",
        "unmet_authentication_requirements",
        "unsupported_grant_type",
        "unsupported_response_type",
    }
)
"""RFC 6749, 4.1.2.1 and 5.2; OpenID Connect Core, 3.1.2.6; OpenID Connect Unmet Authentication Requirements, 2."""


def oauth_note(
    error: str | None, description: str | None, *more: str | None, known: frozenset[str] = frozenset()
) -> str:
    """An OAuth error as text for the log, with `more` words about it. The text is scrubbed, but words that a standard
    documents are kept, and also words that the provider documents (`known`)."""
    words = dict.fromkeys(word for word in (error or "no error code", *more) if word)
    told = ", ".join(noted(word, known) for word in words)
    return f"{told}: {noted(description, known)}" if description else told


def noted(text: str, known: frozenset[str]) -> str:
    """A provider's text, scrubbed for a note. Words of the standards and `known` words are kept."""
    return scrubbed(text, known=STANDARD_WORDS | known)


def showable(text: object) -> str | None:
    """A provider's text of an event, for the log and the audit record; None if it must not get there."""
    return text if isinstance(text, str) and _SHOWABLE.fullmatch(text) else None
