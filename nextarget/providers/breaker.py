"""A circuit breaker: spares a provider that keeps failing, and the people who would wait ten seconds for it in vain.

It knows what this process saw; other processes find out for themselves.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from time import monotonic

from nextarget.errors import ProviderFailed, ProviderUnavailable
from nextarget.model import Provider
from nextarget.telemetry import get_logger, metrics

FAILURES = 5
"""This many in a row open it."""
COOL_DOWN_SECONDS = 30
"""How long nobody is let through then. Afterwards one call is, on trial: it closes the breaker or starts this anew."""

log = get_logger()


class Breaker:
    """Closed until a provider fails FAILURES times in a row. `clock` gives seconds that never go back."""

    def __init__(self, provider: Provider, *, clock: Callable[[], float] = monotonic) -> None:
        self._provider = provider
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._rested_at = float("-inf")
        """When the present cool-down began."""
        self._on_trial = False
        self._wanted_back_at = float("-inf")
        """When the provider, by what it said, may be asked again."""
        metrics.set_breaker(provider, is_open=False)

    @property
    def open(self) -> bool:
        """Whether the provider kept failing, and has not answered since."""
        return self._opened_at is not None

    @property
    def cooling(self) -> bool:
        """Whether it is too early for a trial. False with the end of the cool-down, so that somebody makes it."""
        return self.open and self._clock() - self._rested_at < COOL_DOWN_SECONDS

    @contextmanager
    def call(self) -> Iterator[None]:
        """Surrounds a call, and learns from how it ends. Raises ProviderUnavailable instead when it must not be made.

        Only ProviderUnavailable is a failure: a provider that answers, be it with a refusal, is there. A call that is
        cancelled says nothing.
        """
        if self.open and (self.cooling or self._on_trial):
            note = f"{self._provider}: not asked, since it keeps failing"
            raise ProviderUnavailable(note=note, retry_after=self._seconds_left())
        trial = self._on_trial = self.open
        try:
            yield
        except ProviderUnavailable as error:
            self._wanted_back_at = self._clock() + (error.retry_after or 0)
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
        """Of the cool-down, or of what the provider asked for if that is longer; None during the trial."""
        seconds = max(self._rested_at + COOL_DOWN_SECONDS, self._wanted_back_at) - self._clock()
        return ceil(seconds) if seconds > 0 else None

    def _failed(self, trial: bool) -> None:
        self._failures += 1
        now = self._clock()
        if self._opened_at is None and self._failures >= FAILURES:
            self._opened_at = self._rested_at = now
            metrics.set_breaker(self._provider, is_open=True)
            log.warning("provider_breaker_opened", provider=self._provider, failures=self._failures)
        elif trial:  # others were under way when it opened: what they learn is no news
            self._rested_at = now

    def _answered(self) -> None:
        self._failures = 0
        if self._opened_at is not None:
            seconds = round(self._clock() - self._opened_at)
            self._opened_at = None
            metrics.set_breaker(self._provider, is_open=False)
            log.info("provider_breaker_closed", provider=self._provider, open_seconds=seconds)
