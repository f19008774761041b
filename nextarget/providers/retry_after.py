"""For how long a provider asks to be left alone, as far as we pass that on."""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import ceil

MAX_SECONDS = 300
"""A provider that writes a wrong number must not keep an app from trying for a day."""


def retry_after(headers: Mapping[str, str], *, now: float) -> int | None:
    """Whole seconds of the header Retry-After, from 1 to MAX_SECONDS, or None when there is none that can be read.

    It is a number of seconds or a date (RFC 9110, 10.2.3), of which all three forms count (5.6.7). A date is compared
    with the answer's own `Date`, since clocks differ, or else with `now`, in seconds since 1970.
    """
    value = headers.get("Retry-After", "").strip(" \t")
    if re.fullmatch(r"[0-9]+", value):
        return _bounded(float(value) if len(value) < 10 else MAX_SECONDS)
    until = _seconds(value)
    if until is None:
        return None
    sent = _seconds(headers.get("Date", ""))
    return _bounded(until - (now if sent is None else sent))


def _seconds(date: str) -> float | None:
    """An HTTP-date in seconds since 1970; one without a zone is UTC, as all are."""
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _bounded(seconds: float) -> int:
    return min(max(ceil(seconds), 1), MAX_SECONDS)
