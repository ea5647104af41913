"""Ray's own messages go into a file of the run as soon as there is one, and nowhere else then."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from simtune.executors.ray_log import RAY_LOG, RayLog


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record.getMessage())


def test_messages_go_to_the_file_of_the_run_once_its_directory_is_there(tmp_path: Path) -> None:
    logger, terminal, log = logging.getLogger("a-ray-of-the-test"), Kept(), RayLog()
    logger.propagate = False
    logger.handlers = [terminal]
    log.replace_handlers(logger)
    logger.error("too early")
    log.write_to(tmp_path / "run")
    logger.error("there is no directory yet")
    assert not log.take("nor now")
    (tmp_path / "run").mkdir()
    logger.error("a trial failed\nTraceback\x1b[2J")
    assert log.take("(raylet) a host is lost: token=planted-secret-0123456789")
    assert terminal.kept == ["too early", "there is no directory yet"]
    first, rest, second = (tmp_path / "run" / RAY_LOG).read_text().splitlines()
    assert first.endswith(" a trial failed")
    assert rest == r"Traceback\x1b[2J"
    assert "a host is lost" in second
    assert "planted-secret" not in second
    log.restore_handlers(logger)
    logger.error("afterwards")
    assert terminal.kept[2:] == ["afterwards"]


def test_a_log_that_cannot_be_written_leaves_messages_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / RAY_LOG).mkdir()
    log = RayLog()
    log.write_to(tmp_path)
    assert not log.take("a message")


def test_nothing_is_written_through_a_link_or_into_a_pipe_in_place_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("untouched")
    (tmp_path / RAY_LOG).symlink_to("other")
    log = RayLog()
    log.write_to(tmp_path)
    assert not log.take("a message")
    assert (tmp_path / "other").read_text() == "untouched"
    (tmp_path / RAY_LOG).unlink()
    os.mkfifo(tmp_path / RAY_LOG)
    assert not log.take("a message")
