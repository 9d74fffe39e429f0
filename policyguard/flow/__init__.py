"""The path of a request, written once, as generators over `steps` that somebody else performs.

`admit` decides, `inspect` looks at an answer, `settle` ends a leg, `resume` judges an approval; `rows` makes what the
record keeps. Time, ids and keyed hashes come in as arguments, so replay and tests run the same code without I/O.
"""
