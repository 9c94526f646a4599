"""The modules generated from the built-in specs; see `rnnc regenerate`."""
