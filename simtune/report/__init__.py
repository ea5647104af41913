"""What the choice of tasks was worth: tables, figures and a page, all pure functions of a run's rows."""

import logging

# Otherwise matplotlib says, when it is imported, that it builds a cache of fonts, or where it puts that if the home
# folder cannot be written.
_matplotlib = logging.getLogger("matplotlib")
if _matplotlib.level == logging.NOTSET:
    _matplotlib.setLevel(logging.ERROR)
