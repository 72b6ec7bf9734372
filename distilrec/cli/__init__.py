"""The command line: one module for each group of commands.

Commands import what they run in their functions, so that `distilrec --help` answers at once and no command needs another's extra.
"""
