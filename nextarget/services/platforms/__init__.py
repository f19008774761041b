"""What the platforms tell us about a person, and what they demand for people, beside sign-ins."""
