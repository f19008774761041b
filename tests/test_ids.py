"""Ids, which are unique, also in processes that are forked, as workers are."""

import subprocess
import sys

from nextarget.ids import new_id

FORKED = """
import os
from nextarget.ids import new_id

new_id()
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, new_id().encode())
    os._exit(0)
print(new_id(), os.read(reading, 32).decode())
"""


def test_ids_do_not_repeat() -> None:
    """Every id is another one, and is safe in a header."""
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(each) for each in ids} == {32}
    assert all(set(each) <= set("0123456789abcdef") for each in ids)


def test_a_worker_has_ids_of_its_own() -> None:
    """Ids are drawn in advance. A forked process does not give out those of its parent."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=60)
    of_parent, of_worker = done.stdout.split()
    assert of_parent != of_worker
