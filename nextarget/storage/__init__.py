"""What we store. Only this package imports `peewee`. Its functions take and return dataclasses of `model`, and no row,
query or cursor."""
