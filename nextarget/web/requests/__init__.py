"""Reading a request: parameters, cookies, the grammar of headers, and the client's address."""
