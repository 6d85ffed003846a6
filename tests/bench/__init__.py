"""What explaining and clustering cost: `make bench`, or `python -m tests.bench`.

All times are ratios to something that is measured in the same run, in turns; a table of seconds would only tell how
fast a machine is. Nothing here is run by `make test` but what needs no clock.
"""
