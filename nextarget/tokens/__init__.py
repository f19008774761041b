"""What is signed: the only room that imports `jwt` and `google.auth`. Time is an argument, so rules are pure."""
