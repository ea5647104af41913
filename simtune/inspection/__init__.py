"""What a finished or running sweep left: its state, what is wrong with it, and one subset of it. Changes nothing."""
