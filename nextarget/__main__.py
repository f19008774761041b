"""`python -m nextarget` is `nextarget`."""

from nextarget.cli.main import main

main()
