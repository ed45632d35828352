"""What the platform costs, each figure beside what it is measured against, in one run on one machine (`make bench`).

One module a measure; `MEASURES` in `benchmarks.__main__` lists them. A measure returns `Row`s. Both sides of a ratio do
the same work on the same rows, and short ones take turns and count with their best repeat: a disturbance costs neither.
"""
