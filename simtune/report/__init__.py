"""What the choice of tasks was worth: tables, figures and a page, all pure functions of a run's rows."""
