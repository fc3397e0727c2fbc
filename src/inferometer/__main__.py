"""`python -m inferometer`: the same as the command `inferometer`."""

from inferometer.cli import main

main()
