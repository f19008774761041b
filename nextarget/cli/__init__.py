"""The terminal: a file for every group of commands. Large packages are imported only when a command runs."""
