"""What the platforms tell us about a person, beside sign-ins."""
