"""Imported first, the program of this process has the invented provider."""

from nextarget.registry import PROVIDERS
from tests.invented import NAME, PARROT

PROVIDERS[NAME] = PARROT
