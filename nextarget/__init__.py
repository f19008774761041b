"""NexTarget Server: sign-in with Google and Facebook for a mobile app."""

__version__ = "0.1.0"
