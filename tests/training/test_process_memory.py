"""What a process keeps between its trials."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own, because this one's objects are exempt from collections already (see conftest).
SCRIPT = """
import gc, weakref
from simtune.training.process_memory import released_between_trials

class Model:
    def __init__(self):
        self.itself = self

gone = []
try:
    with released_between_trials() as release:
        for trial in range(3):
            model = Model()
            gone.append(weakref.ref(model))
            del model
            release()
            assert gc.get_freeze_count() > 1000, trial
            assert gone[-1]() is None, trial
        raise KeyError
except KeyError:
    pass
assert gc.get_freeze_count() == 0
"""


def test_a_trials_model_is_freed_and_what_is_alive_is_collected_again_at_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
