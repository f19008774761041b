"""HTTP: a handler parses the request, calls one service and renders the answer. The boundary answers errors."""
