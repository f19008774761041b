"""Our client at each stand-in, in a file of the same name: what is made up, and the settings that lead there."""
