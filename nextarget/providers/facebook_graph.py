"""Facebook's Graph API: its errors, its facts about an access token, and its ids, which are numbers or text."""

import asyncio
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from nextarget.errors import IdentityRejected, ProviderFailed, ProviderRefused, ProviderUnavailable
from nextarget.model import Secret
from nextarget.providers.error_words import noted
from nextarget.providers.http.client import MAX_ASKING, Answer, ProviderHttp

LATER = frozenset({1, 2, 4, 17, 32, 341, 368, 613, *range(80000, 80015)})
"""Error codes of temporary errors. 1 and 2 are problems of Facebook, 368 is a temporary block, the others are limits.
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
"""Types of errors (https://developers.facebook.com/docs/graph-api/guides/error-handling), and words in messages."""
_UNKNOWN = 1
_OUR_MISTAKE = re.compile(r"client.secret|code.verifier|authorization code", re.I)
"""At the token endpoint, error 1 is either a problem of Facebook, or one of ours: a wrong secret, or a challenge that
Facebook did not store. Only the message shows which one it is."""
TOKEN_ENDED = frozenset({102, 190})
"""The access token has expired, was revoked, or is not a token. Facebook's page on errors says to get a new one, with
any subcode."""
_NOT_OURS = 100
"""Error code of `debug_token`: the token was made for another app, or our app may not ask."""
REMEMBER_SECONDS = 60
"""How long we remember whether our own app token is valid. So after a change of the secret, errors are wrong for this
time at most, and a stranger with invented tokens causes only one more request in this time."""
RETRY_SECONDS = 5
"""After Facebook could not answer about our own app token, we do not ask again for this time. So the sign-ins that wait
for the answer wait for one request only."""

Refusal = ProviderRefused | ProviderFailed | ProviderUnavailable


def error_code(answer: Answer) -> int | None:
    """The `code` of a Graph error."""
    code = _error_of(answer).get("code")
    return code if type(code) is int else None


def failure(answer: Answer, where: str, *, refused_by: Collection[int] = ()) -> Refusal:
    """Our error for an answer that is not a success. `refused_by` are the error codes that mean that the code or token
    of the request is not valid."""
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
    """A number, which Facebook writes sometimes as a number and sometimes as text of digits; None for other values."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,32}", value):
        return int(value)
    return value if type(value) is int and value >= 0 else None


def id_text(value: object) -> str | None:
    """A person's id, as text."""
    return str(value) if whole_number(value) is not None else None


@dataclass(frozen=True, slots=True)
class _OwnTokenCheck:
    """Whether our own app token is valid, or the error when Facebook could not answer. It is remembered until the
    clock's time `until` (seconds)."""

    good: bool
    until: float
    trouble: ProviderUnavailable | None = None


class TokenDebugger:
    """Asks Facebook for facts about an access token, at `url`, with our app token. `clock` returns seconds that never
    go back.

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
        self._last_check = _OwnTokenCheck(good=False, until=float("-inf"))
        self._asking = asyncio.Lock()
        self._waiting = 0

    async def facts(self, token: str) -> Mapping[str, Any]:
        """Facebook's facts about a token. The caller has to decide whether the token is acceptable.

        Raises IdentityRejected if the token was made for another app or is not a token, ProviderUnavailable, and
        ProviderFailed if Facebook does not accept our app id and secret. Facebook answers both cases with the same
        error, so our own app token is checked to tell them apart.
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
        """Whether Facebook accepts our own app token. The answer is remembered for REMEMBER_SECONDS.

        Raises ProviderUnavailable if Facebook cannot answer, or if MAX_ASKING sign-ins already wait for the answer.
        """
        if self._waiting >= MAX_ASKING:
            raise ProviderUnavailable(note=f"facebook: {MAX_ASKING} sign-ins wait for what it says of our own token")
        self._waiting += 1
        try:
            async with self._asking:
                if self._clock() >= self._last_check.until:
                    self._last_check = await self._check_own_token()
        finally:
            self._waiting -= 1
        if (trouble := self._last_check.trouble) is not None:
            raise ProviderUnavailable(note=trouble.note, retry_after=trouble.retry_after)
        return self._last_check.good

    async def _check_own_token(self) -> _OwnTokenCheck:
        try:
            answer = await self._ask(self._own_token.reveal())
            data = answer.document.get("data")
            facts = data if answer.ok and isinstance(data, dict) else {}
            error = failure(answer, "debug_token")
            if not facts and isinstance(error, ProviderUnavailable):
                raise error
        except ProviderUnavailable as trouble:
            return _OwnTokenCheck(good=False, until=self._clock() + RETRY_SECONDS, trouble=trouble)
        good = facts.get("is_valid") is True and str(facts.get("app_id")) == self._app_id
        return _OwnTokenCheck(good, self._clock() + REMEMBER_SECONDS)

    async def _ask(self, token: str) -> Answer:
        return await self._http.get(
            self._url,
            operation="debug_token",
            params={"input_token": token},
            headers={"Authorization": f"Bearer {self._own_token.reveal()}"},
        )
