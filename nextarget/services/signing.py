"""Since when private keys sign: the same for every node, and whatever is restarted."""

from nextarget.model import Millis
from nextarget.storage.engines.database import Database
from nextarget.storage.rows import signing_keys


async def first_use_of_any(database: Database, key_id: str, *, now: Millis) -> Millis:
    """When the first private key came into use, which is now unless there was one before; this key's use is kept.

    The earliest of all keys counts. Another key begins no new day for the secret, nor does a way back to the secret and
    then to a key again: what the secret signed meanwhile is refused at once, and apps refresh.
    """
    known = await database.read(signing_keys.first_uses)
    if key_id not in known:
        await database.write(signing_keys.remember, key_id, now=now)
        known = await database.read(signing_keys.first_uses)  # another node may have been first
    return min(known.values())
