"""`python -m torana_server.cli` is `torana`."""

from torana_server.cli import main

main()
