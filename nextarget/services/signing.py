"""When private keys came into use. It is stored in the database, so that all nodes agree, also after a restart."""

from nextarget.model import Millis
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import signing_keys


async def first_use_of_any(database: Database, key_id: str, *, now: Millis) -> Millis:
    """When the first private key of this server came into use. Stores `now` for this key if it is new.

    The earliest time of all keys counts. The secret gets its one day (`tokens.access.SECRET_BELIEVED_MS`) only after
    that time. A second private key does not give it another day, and neither does a change back to the secret and then
    to a private key again: tokens that the secret signed in between are refused at once, and the apps refresh.
    """
    known = await database.read(signing_keys.first_uses)
    if key_id not in known:
        await database.write(signing_keys.remember, key_id, now=now)
        known = await database.read(signing_keys.first_uses)  # another node may have stored an earlier time
    return min(known.values())
