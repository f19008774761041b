"""What an operator does: with users, tokens and databases, and to check that what the server needs works."""
