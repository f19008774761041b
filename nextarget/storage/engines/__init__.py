"""The interface of a database, its two implementations, and the parts that they share."""
