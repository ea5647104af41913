"""Two real workers learn what one does, at every ZeRO stage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_loop import made, plain_losses, settings


@pytest.mark.slow
def test_every_loss_of_two_workers_equals_plain_pytorch(tmp_path: Path) -> None:
    script = Path(__file__).with_name("two_workers.py")
    workers = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), "2", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=script.parent,
        )
        for rank in (0, 1)
    ]
    said = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(said)
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one == two
    data = made()
    for zero_stage, losses in one.items():
        batching = "length" if int(zero_stage) % 2 else "random"
        np.testing.assert_allclose(losses, plain_losses(data, settings(batching=batching)), atol=1e-5)
