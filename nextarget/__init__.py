"""NexTarget Server: sign-in through providers such as Google for a mobile app."""

__version__ = "0.1.0"
