"""simtune: which instruction tasks should a model be trained on, and what was the choice worth?

Importing this package loads neither torch nor ray; each room imports what it needs when it is used.
"""

__version__ = "0.1.0"
