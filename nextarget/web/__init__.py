"""HTTP: parse, one service call, render. Errors of ours are raised, and become answers in one place."""
