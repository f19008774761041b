"""The values of options and arguments of commands."""
