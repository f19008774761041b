"""The interface of a database, its two implementations, batching, and the meaning of database errors."""
