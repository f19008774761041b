"""The process that listens: its connections and their limits, its workers, and whether it is ready."""
