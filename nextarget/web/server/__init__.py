"""The server process: listening, connections and their limits, workers, and readiness."""
