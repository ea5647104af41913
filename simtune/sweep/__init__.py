"""Planning a sweep, running what is missing of it, and gathering the results."""
