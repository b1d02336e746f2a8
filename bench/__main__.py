"""python -m bench: a small version of every study."""

from bench.paper import main

main()
