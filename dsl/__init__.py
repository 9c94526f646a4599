"""What a recurrence means: its language, its checker, its algebra. Imports neither torch, triton nor jinja2."""
