"""simtune: which instruction tasks should a model be trained on, and what was the choice worth?

Importing this package loads neither torch nor ray; each room imports what it needs when it is used. It sets how threads
wait for each other (see `simtune.threads`).
"""

import os
import sys

# Before any import from a file. `python -m simtune.cli` puts the working directory before everything else: whoever runs
# it inside a cloned corpus would run that corpus's `statistics.py`.
if sys.argv[:1] == ["-m"] and sys.path and sys.path[0] in ("", os.path.realpath(os.curdir), os.environ.get("PWD")):
    del sys.path[0]

from simtune.threads import set_waiting

set_waiting()

__version__ = "0.1.0"
