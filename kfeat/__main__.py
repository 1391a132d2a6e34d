"""``python -m kfeat``."""

from kfeat.cli import main

main()
