"""``python -m distilrec``: the command line."""

from distilrec.cli.app import main

main()
