"""What is read out of a request: parameters, cookies, the grammar of headers, and the address of the client."""
