"""Commands that read the audit record."""
