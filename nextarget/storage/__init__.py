"""What we keep: the only room that imports `peewee`. Functions take and return `model` dataclasses, nothing lazy."""
