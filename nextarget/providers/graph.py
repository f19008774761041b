"""Facebook's Graph API: what its errors mean, what it says of an access token, and what it writes in two ways."""

import asyncio
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from nextarget.errors import IdentityRejected, ProviderFailed, ProviderRefused, ProviderUnavailable
from nextarget.model import Secret
from nextarget.providers.base import MAX_ASKING, Answer, ProviderHttp, noted

LATER = frozenset({1, 2, 4, 17, 32, 341, 368, 613, *range(80000, 80015)})
"""Error codes that mean: later. 1 and 2 are trouble of Facebook's, 368 is a block that ends, the others are limits.
https://developers.facebook.com/docs/graph-api/guides/error-handling and .../docs/graph-api/overview/rate-limiting"""
ERROR_WORDS = frozenset(
    {
        "FacebookApiException",
        "GraphMethodException",
        "OAuthException",
        "authorization_code",
        "client_credentials",
        "fb_exchange_token",
        "redirect_uri_mismatch",
        "unsupported_grant_type",
        "user_denied",
    }
)
"""Types of https://developers.facebook.com/docs/graph-api/guides/error-handling, and words of its messages."""
_UNKNOWN = 1
_OUR_MISTAKE = re.compile(r"client.secret|code.verifier|authorization code", re.I)
"""What error 1 is at the token endpoint, beside trouble of Facebook's: a wrong secret, or a challenge that it did not
keep. Only the message tells."""
TOKEN_ENDED = frozenset({102, 190})
"""The access token has expired, was revoked or is none: the page on errors says to get a new one, whatever the
subcode."""
_NOT_OURS = 100
"""Of `debug_token`: the token was made for another app, or ours may not ask."""
REMEMBER_SECONDS = 60
"""How long we go by what Facebook said of our own app token. After a change of the secret nobody is told the wrong
thing for longer, and a stranger with made-up tokens causes one more question in that time."""
RETRY_SECONDS = 5
"""How long it is not asked again after it could not say: who waits for the answer then waits for one question alone."""

Refusal = ProviderRefused | ProviderFailed | ProviderUnavailable


def error_code(answer: Answer) -> int | None:
    """The `code` of a Graph error."""
    code = _error_of(answer).get("code")
    return code if type(code) is int else None


def failure(answer: Answer, where: str, *, refused_by: Collection[int] = ()) -> Refusal:
    """What an answer that is no success means for us: `refused_by` are codes that are about what was presented."""
    error, code = _error_of(answer), error_code(answer)
    text = f"{error.get('type')} {code}/{error.get('error_subcode')}: {error.get('message')}"
    note = f"facebook {where}: status {answer.status}, {noted(text, ERROR_WORDS)}"
    passes = code in LATER and not (code == _UNKNOWN and _OUR_MISTAKE.search(str(error.get("message"))))
    if passes or error.get("is_transient") is True:
        return ProviderUnavailable(note=note, retry_after=answer.retry_after)
    if code in refused_by:
        return ProviderRefused(note=note)
    return ProviderFailed(note=note)


def _error_of(answer: Answer) -> Mapping[str, Any]:
    error = answer.document.get("error")
    return error if isinstance(error, dict) else {}


def whole_number(value: object) -> int | None:
    """A number that Facebook writes as one or as text of digits, from case to case; None when it is neither."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,32}", value):
        return int(value)
    return value if type(value) is int and value >= 0 else None


def id_text(value: object) -> str | None:
    """A person's id, as text."""
    return str(value) if whole_number(value) is not None else None


@dataclass(frozen=True, slots=True)
class _Said:
    """What Facebook said of our own app token, or why it could not say, and until when we go by it (seconds of the
    clock)."""

    good: bool
    until: float
    trouble: ProviderUnavailable | None = None


class TokenDebugger:
    """Asks Facebook what an access token is, as the app itself, at `url`. `clock` gives seconds that never go back.

    https://developers.facebook.com/docs/facebook-login/guides/access-tokens/debugging
    """

    def __init__(
        self, http: ProviderHttp, url: str, app_id: str, secret: Secret, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._http = http
        self._url = url
        self._app_id = app_id
        self._own_token = Secret(f"{app_id}|{secret.reveal()}")
        self._clock = clock
        self._said = _Said(good=False, until=float("-inf"))
        self._asking = asyncio.Lock()
        self._waiting = 0

    async def facts(self, token: str) -> Mapping[str, Any]:
        """What Facebook says of a token; whether it may be used, the caller decides.

        Raises IdentityRejected when the token is another app's or none at all, ProviderUnavailable, and ProviderFailed
        when Facebook does not take our own credentials: it says the same of both.
        """
        answer = await self._ask(token)
        data = answer.document.get("data")
        if answer.ok and isinstance(data, dict):
            return data
        error = failure(answer, "debug_token", refused_by={_NOT_OURS, *TOKEN_ENDED})
        if not isinstance(error, ProviderRefused):
            raise error
        if not await self._own_token_is_good():
            raise ProviderFailed(note=f"{error.note}; nor does it take FACEBOOK_CLIENT_ID and FACEBOOK_CLIENT_SECRET")
        reason = "access token made for another app" if error_code(answer) == _NOT_OURS else "access token not valid"
        raise IdentityRejected(reason, note=error.note)

    async def _own_token_is_good(self) -> bool:
        """Whether Facebook takes our app token, by what it says of it; remembered for REMEMBER_SECONDS.

        Raises ProviderUnavailable when it cannot say, or when MAX_ASKING sign-ins wait for it already.
        """
        if self._waiting >= MAX_ASKING:
            raise ProviderUnavailable(note=f"facebook: {MAX_ASKING} sign-ins wait for what it says of our own token")
        self._waiting += 1
        try:
            async with self._asking:
                if self._clock() >= self._said.until:
                    self._said = await self._ask_about_our_own()
        finally:
            self._waiting -= 1
        if (trouble := self._said.trouble) is not None:
            raise ProviderUnavailable(note=trouble.note, retry_after=trouble.retry_after)
        return self._said.good

    async def _ask_about_our_own(self) -> _Said:
        try:
            answer = await self._ask(self._own_token.reveal())
            data = answer.document.get("data")
            facts = data if answer.ok and isinstance(data, dict) else {}
            error = failure(answer, "debug_token")
            if not facts and isinstance(error, ProviderUnavailable):
                raise error
        except ProviderUnavailable as trouble:
            return _Said(good=False, until=self._clock() + RETRY_SECONDS, trouble=trouble)
        good = facts.get("is_valid") is True and str(facts.get("app_id")) == self._app_id
        return _Said(good, self._clock() + REMEMBER_SECONDS)

    async def _ask(self, token: str) -> Answer:
        return await self._http.get(
            self._url,
            operation="debug_token",
            params={"input_token": token},
            headers={"Authorization": f"Bearer {self._own_token.reveal()}"},
        )
