"""The stand-ins, and the code that they share."""
