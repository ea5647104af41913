"""Which results a sweep names, running what is missing of them, and gathering what there is."""
