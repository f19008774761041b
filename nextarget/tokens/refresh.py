"""Refresh tokens: `session id . generation . MAC`, never stored. What a presented one leads to is decided here, purely.

The rules let an app that loses any answer try again at any time, and make sure that a copied token is noticed once
both holders go on using it (RFC 9700, 4.14.2). See `decide`.
"""

import hmac
import re
from dataclasses import dataclass, replace
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

NEW_SESSION = Generations(previous=0, oldest=1, current=1, floor=0, rotated_at=Millis(0), recovered_at=Millis(0))
"""A session whose first refresh token is generation 1. It has not rotated, so it is not fresh."""

CLOCKS_MS = 60_000
"""How far the clock of the node that wrote a row may be ahead of the one that reads it."""
FEW = 3
"""How many answers in a row may be lost before late and parallel messages of the app no longer count as its own."""


def decide(presented: int, session: Generations, *, now: Millis, window_ms: int) -> Decision:
    """What a presented generation leads to, for a session that stands. First rule that fits.

    - Newer than the newest: the database lost its last commits. It catches up with the app.
    - Within the reuse window after a rotation: parallel, repeated and late refreshes get the newest token, and nothing
      is written.
    - One of those handed out and not used yet: the session moves on.
    - The one used last: its answer was lost. Another successor is handed out, the same one within the window; earlier
      unused ones stay good until one is used. That is no rotation: if it were, whoever holds an old token could keep
      the window open by asking at its end, and the app's own newer token would never move on.
    - Anything older: two holders.

    While few answers in a row were lost, those that the app may still send or receive late are its own: the window
    answers from the token used before, and lost answers are made good by one successor. After many, neither: a thief
    would collect successors, one of which is the app's next token, and follow it for ever.
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
        return Advance(replace(session, current=session.current + 1, recovered_at=now), "refresh_recovered")
    return Reused()


def _used(presented: int, successor: int, *, floor: int, now: Millis) -> Generations:
    """After a token was used and its one successor handed out."""
    return Generations(presented, successor, successor, floor, rotated_at=now, recovered_at=Millis(0))
