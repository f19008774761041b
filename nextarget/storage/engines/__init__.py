"""How a database is asked: its doors, the two engines behind them, batches, and what a failure of one means."""
