"""Refresh tokens, `session id . generation . MAC`, which are never stored; and the rules for a refresh.

An app that lost an answer can try again at any time. A copied token is noticed once both holders continue to use it
(RFC 9700, 4.14.2). See `decide`.
"""

import hmac
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from nextarget.model import Generations, Millis
from nextarget.tokens.encoding import base64url
from nextarget.tokens.keyring import Keyring, SigningKey

MAX_TOKEN_LENGTH = 120
_FORM = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(0|[1-9][0-9]{0,14})\.([A-Za-z0-9_-]{43})")
_LABEL = "refresh token"


class RefreshToken(NamedTuple):
    """What a refresh token with a valid MAC says."""

    session_id: str
    generation: int


def mint(keyring: Keyring, token: RefreshToken) -> str:
    """The token's text, under the current secret."""
    body = f"{token.session_id}.{token.generation}"
    return f"{body}.{_mac(keyring.current, body)}"


def read(keyring: Keyring, text: str) -> RefreshToken | None:
    """What a token says. None if its MAC was made neither with the current secret nor with a previous one."""
    found = _FORM.fullmatch(text) if len(text) <= MAX_TOKEN_LENGTH else None
    if found is None:
        return None
    session_id, generation, presented = found.groups()
    body = f"{session_id}.{generation}"
    for key in keyring.secrets:
        if hmac.compare_digest(_mac(key, body), presented):
            return RefreshToken(session_id, int(generation))
    return None


def _mac(key: SigningKey, body: str) -> str:
    return base64url(key.mac(_LABEL, body))


class Keep(NamedTuple):
    """The session stays as it is. `answer` is the generation of the refresh token to return."""

    answer: int


class Advance(NamedTuple):
    """The session gets new `generations`, and the app a token of their `current`. `event` is recorded, if any."""

    generations: Generations
    event: Literal["session_rewound", "refresh_recovered"] | None = None


@dataclass(frozen=True, slots=True)
class Reused:
    """The token is of a generation that an honest app does not use any more: the session ends."""


Decision = Keep | Advance | Reused

NEW_SESSION = Generations(previous=0, oldest=1, current=1, floor=0, rotated_at=Millis(0), recovered_at=Millis(0))
"""A new session: its first refresh token is of generation 1, and it has not rotated."""

CLOCKS_MS = 60_000
"""How far the clock of the node that wrote a row may be ahead of ours."""
FEW = 3
"""How many answers in a row may be lost before late and parallel requests are not trusted any more."""


def decide(presented: int, session: Generations, *, now: Millis, window_ms: int) -> Decision:
    """What a token of the generation `presented` leads to, for an active session. The first rule that fits decides.

    - Newer than `current`: the database lost its last commits, as in a failover. The session catches up with the app.
    - Within the reuse window (grace window) after a rotation, and not older than `floor`: a parallel, repeated or late
      refresh. It gets the current token, and nothing is written.
    - One of the unused tokens, `oldest` to `current`: a rotation. The session moves on.
    - The token used last, `previous`: its answer was lost. The app gets a new successor. If it asks again within
      the window, it gets the same one. Earlier successors stay valid until one is used. This is no rotation: if it
      opened the reuse window, a thief with an old token could keep the window open by asking at its end, and the app's
      newer token would never rotate.
    - Older than all of these: two parties use copies of the session's tokens.

    After at most FEW lost answers in a row, late and parallel requests are the app's own: the reuse window accepts the
    token before the one used last, and recoveries within a window share one successor. After more lost answers, neither
    rule applies. Otherwise a thief could collect successors, one of which is the app's next token, and follow the app
    for ever.
    """

    def within_window(moment: Millis) -> bool:
        return moment > 0 and -CLOCKS_MS <= now - moment <= window_ms

    few = session.current - session.oldest <= FEW
    if presented > session.current:
        return Advance(_used(presented, presented + 1, floor=session.previous, now=now), "session_rewound")
    if within_window(session.rotated_at) and presented >= session.floor:
        return Keep(session.current)
    if presented >= session.oldest:
        floor = session.previous if few else presented
        return Advance(_used(presented, session.current + 1, floor=floor, now=now))
    if presented == session.previous:
        if few and within_window(session.recovered_at):
            return Keep(session.current)
        return Advance(session._replace(current=session.current + 1, recovered_at=now), "refresh_recovered")
    return Reused()


def _used(presented: int, successor: int, *, floor: int, now: Millis) -> Generations:
    """The generations after a token was used: its successor is the only unused token."""
    return Generations(presented, successor, successor, floor, rotated_at=now, recovered_at=Millis(0))
