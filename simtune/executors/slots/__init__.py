"""Slots: sets of workers that stay alive from one trial to the next, and what schedules trials into them."""
