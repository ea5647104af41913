"""What the choice of tasks was worth: tables, figures and a page, all pure functions of a run's rows."""

import logging

# Otherwise matplotlib says at its import where it put its fonts if the home folder cannot be written, or that it is
# looking for them.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
