"""Options and arguments of commands: those that several commands have, their values, and their completion."""
