"""Signed tokens and values. Only this package imports `jwt` and `google.auth`. Functions take the time as `now`."""
