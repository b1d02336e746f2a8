"""python -m jpegrad_studies: a small version of every study."""

from jpegrad_studies.paper import main

main()
