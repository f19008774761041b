"""An invented provider, Parrot, in a house of its own: what a provider needs, and nothing of it inside the program.

It differs from the others where providers can: it comes back with a form, its client secret is a token that is signed
when it is needed, and it tells an email at a person's first sign-in alone.
"""

from nextarget.model import Provider
from nextarget.registry import Registered

NAME = Provider("parrot")
PARROT = Registered(NAME, "Parrot", house="tests.invented")
