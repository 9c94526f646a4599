"""What a user calls: operators, layers, the built-in models."""
