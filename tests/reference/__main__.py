"""`python -m tests.reference [--check]`."""

import sys

from tests.reference import stale, write

if sys.argv[1:] == ["--check"]:
    if difference := stale():
        print(difference)
        sys.exit("docs/reference/ is stale. Write it again with: python -m tests.reference")
elif sys.argv[1:]:
    sys.exit("usage: python -m tests.reference [--check]")
else:
    write()
