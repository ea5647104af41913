"""The grid points of a sweep: the tasks, suites, tokenizer and model of each, up to the subsets that are chosen."""
