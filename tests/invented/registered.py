"""Importing this module registers the invented provider in this process."""

from nextarget.registry import PROVIDERS
from tests.invented import NAME, PARROT

PROVIDERS[NAME] = PARROT
