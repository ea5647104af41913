"""Figures of the page, as specifications of Vega-Lite that are functions of a run's rows."""
