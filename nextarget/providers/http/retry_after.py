"""Reads the header Retry-After of a provider's answer."""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import ceil

MAX_SECONDS = 300
"""The longest time that we pass on. A wrong number from a provider must not stop an app for a day."""


def retry_after(headers: Mapping[str, str], *, now: float) -> int | None:
    """The whole seconds of the header Retry-After, from 1 to MAX_SECONDS; None if the header is missing or unreadable.

    The header contains a number of seconds or a date (RFC 9110, 10.2.3), in one of three forms (5.6.7). A date is
    compared with the header `Date` of the same answer, because the clocks of the two machines may differ. Without that
    header, it is compared with `now`, in seconds since 1970.
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
    """An HTTP-date in seconds since 1970. Every HTTP-date is UTC, also one without a time zone."""
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _bounded(seconds: float) -> int:
    return min(max(ceil(seconds), 1), MAX_SECONDS)
