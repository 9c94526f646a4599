"""What a recurrence means: grammar, checker, ranges, algebra, exact reference."""
