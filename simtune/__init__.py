"""simtune: which instruction tasks should a model be trained on, and what was the choice worth?

Importing this package loads neither torch nor ray; each room imports what it needs when it is used. It sets how threads
wait for each other (see `simtune.threads`).
"""

from simtune.threads import set_waiting

set_waiting()

__version__ = "0.1.0"
