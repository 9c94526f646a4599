"""What a recurrence means: the language, its checker, ranges, the normal form, the reference interpreter."""
