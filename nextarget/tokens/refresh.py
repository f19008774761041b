"""Refresh tokens: `session id . generation . MAC`, never stored. What a presented one leads to is decided here, purely.

The rules let an app that loses any answer try again at any time, and make sure that a copied token is noticed once
both holders go on using it (RFC 9700, 4.14.2). See `decide`.
"""

import hmac
import re
from dataclasses import dataclass
from typing import Literal

from nextarget.model import Generations, Millis
from nextarget.tokens.encoding import base64url
from nextarget.tokens.keyring import Keyring, SigningKey

MAX_TOKEN_LENGTH = 120
_FORM = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(0|[1-9][0-9]{0,14})\.([A-Za-z0-9_-]{43})")
_LABEL = "refresh token"


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What a refresh token with a valid MAC says."""

    session_id: str
    generation: int


def mint(keyring: Keyring, token: RefreshToken) -> str:
    """The token's text, under the current secret."""
    body = f"{token.session_id}.{token.generation}"
    return f"{body}.{_mac(keyring.current, body)}"


def read(keyring: Keyring, text: str) -> RefreshToken | None:
    """What the text says, if its MAC was made with the current secret or a previous one; else None."""
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


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing changes; `answer` is the generation to hand out."""

    answer: int


@dataclass(frozen=True, slots=True)
class Advance:
    """The session moves on to `generations`, whose `current` is handed out. `event`, if any, goes on record."""

    generations: Generations
    event: Literal["session_rewound", "refresh_recovered"] | None = None


@dataclass(frozen=True, slots=True)
class Reused:
    """A generation that an honest app no longer holds: the session ends."""


Decision = Keep | Advance | Reused

NEW_SESSION = Generations(previous=0, oldest=1, current=1, rotated_at=Millis(0))
"""A session whose first refresh token is generation 1. It has not rotated, so it is not fresh."""


def decide(presented: int, session: Generations, *, now: Millis, window_ms: int) -> Decision:
    """What a presented generation leads to, for a session that stands. First rule that fits.

    - Newer than the newest: the database lost its last commits. It catches up with the app.
    - Within the reuse window after a rotation (a clock that went back counts as within): parallel and repeated
      refreshes get the same answer, and nothing is written.
    - One of those handed out and not used yet: the session moves on.
    - The one used last: its answer was lost. Another successor is handed out; earlier unused ones stay good until
      one is used.
    - Anything older: two holders.
    """
    if presented > session.current:
        successor = presented + 1
        return Advance(Generations(presented, successor, successor, now), "session_rewound")
    if now - session.rotated_at <= window_ms and presented >= session.previous - 1:
        return Keep(presented if presented >= session.oldest else session.current)
    if presented >= session.oldest:
        successor = session.current + 1
        return Advance(Generations(presented, successor, successor, now))
    if presented == session.previous:
        return Advance(Generations(session.previous, session.oldest, session.current + 1, now), "refresh_recovered")
    return Reused()
