"""What a driver, its supervisor and Ray's head agree on."""

RAY_IS_LOST = 75
"""A driver's exit code where its Ray was lost: of a temporary failure (EX_TEMPFAIL), so it may be started again."""
SUBMIT_COMMAND = "SIMTUNE_SUBMIT_COMMAND"
"""Environment variable of a submitted driver: the command that was typed on another machine, and continues the run."""
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""The first message of an HTTP/2 client: the head answers it, not the operating system that queues connections."""
