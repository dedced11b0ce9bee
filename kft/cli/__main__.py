"""`python -m kft.cli`."""

from kft.cli import main

main()
