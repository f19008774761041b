"""The tables, and the functions that read and write their rows."""
