"""`python -m simtune.cli`."""

from simtune.cli.main import main

main()
