"""A circuit breaker: it stops the requests to a provider that keeps failing.

That takes load off the provider, and people do not wait ten seconds for an error. Every process has its own circuit
breaker, which counts the failures in that process only.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from time import monotonic

from nextarget.errors import ProviderFailed, ProviderUnavailable
from nextarget.model import Provider
from nextarget.telemetry import get_logger, metrics

FAILURES = 5
"""The number of failures in a row that opens the circuit breaker."""
COOL_DOWN_SECONDS = 30
"""After it opened, no request is sent for this time. Then one request is sent as a trial. Its success closes the
circuit breaker, and its failure begins another cool-down."""

log = get_logger()


class Breaker:
    """Closed until a provider fails FAILURES times in a row. `clock` returns seconds that never go back."""

    def __init__(self, provider: Provider, *, clock: Callable[[], float] = monotonic) -> None:
        self._provider = provider
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._cooling_since = float("-inf")
        """The time when the current cool-down began."""
        self._on_trial = False
        self._retry_at = float("-inf")
        """The time of the next request that the provider's Retry-After allows."""
        metrics.set_breaker(provider, is_open=False)

    @property
    def open(self) -> bool:
        """Whether the provider failed FAILURES times in a row, and has not answered since."""
        return self._opened_at is not None

    @property
    def cooling(self) -> bool:
        """Whether the cool-down lasts. It is false afterwards although the circuit breaker is open, so that the next
        request becomes the trial."""
        return self.open and self._clock() - self._cooling_since < COOL_DOWN_SECONDS

    @contextmanager
    def call(self) -> Iterator[None]:
        """Surrounds a request, and counts its result. Raises ProviderUnavailable if the request must not be sent.

        Only ProviderUnavailable counts as a failure: a provider that answers is available, even if it refuses. A
        cancelled request does not count.
        """
        if self.open and (self.cooling or self._on_trial):
            note = f"{self._provider}: not asked, since it keeps failing"
            raise ProviderUnavailable(note=note, retry_after=self._seconds_left())
        trial = self._on_trial = self.open
        try:
            yield
        except ProviderUnavailable as error:
            self._retry_at = self._clock() + (error.retry_after or 0)
            self._failed(trial)
            raise
        except ProviderFailed:
            self._answered()
            raise
        else:
            self._answered()
        finally:
            if trial:
                self._on_trial = False

    def _seconds_left(self) -> int | None:
        """The seconds until the end of the cool-down, or of the provider's Retry-After if that is later; None during
        the trial."""
        seconds = max(self._cooling_since + COOL_DOWN_SECONDS, self._retry_at) - self._clock()
        return ceil(seconds) if seconds > 0 else None

    def _failed(self, trial: bool) -> None:
        self._failures += 1
        now = self._clock()
        if self._opened_at is None and self._failures >= FAILURES:
            self._opened_at = self._cooling_since = now
            metrics.set_breaker(self._provider, is_open=True)
            log.warning("provider_breaker_opened", provider=self._provider, failures=self._failures)
        elif trial:  # not for requests that were sent before it opened
            self._cooling_since = now

    def _answered(self) -> None:
        self._failures = 0
        if self._opened_at is not None:
            seconds = round(self._clock() - self._opened_at)
            self._opened_at = None
            metrics.set_breaker(self._provider, is_open=False)
            log.info("provider_breaker_closed", provider=self._provider, open_seconds=seconds)
