"""What is made of pages and items once they are stored: records by a language model, vectors, whatever a function makes.

A task lays out jobs, one for each page or item and kind of record; a worker claims a few, makes them outside of any
transaction, and stores each with its records in one. `runner.py` is the life of a worker, `work.py` makes one job,
`layout.py` finds what is due. What there is to do and who has it in hand is in the database alone.
"""
