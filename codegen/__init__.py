"""How a recurrence is computed: forms, tile programs, derivatives, numerics, schedules, printing."""
