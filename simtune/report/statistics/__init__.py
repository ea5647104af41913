"""What the scores of a run can support: intervals, comparisons, fits, power, and the claims of the study.

`of_run.run_statistics` gives the records of `records` for the rows of a run; tables, sentences and the page print them.
"""
