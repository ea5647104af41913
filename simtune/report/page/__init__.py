"""The report as one HTML file: sections and tables made by templates, figures that Vega-Lite draws in the browser."""
