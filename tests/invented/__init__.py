"""An invented provider, Parrot, outside the program: all parts that a provider needs, none of them in `nextarget`.

It uses the features that the other providers do not have: its answer is a form, its client secret is a signed token,
and it sends an email only at a person's first sign-in.
"""

from nextarget.model import Provider
from nextarget.registry import Registered

NAME = Provider("parrot")
PARROT = Registered(NAME, "Parrot", package="tests.invented")
