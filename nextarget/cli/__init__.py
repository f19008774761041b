"""The terminal: one file for each group of commands. Nothing heavy is imported until a command runs."""
