"""The guard: one object that runs the flow with a store, a moderator and a clock, and what it is made of.

The decorator is here and not with the other doors, because it is a method of the guard. `offer` and `steps` are what it
has in common with the doors in `adapters`.
"""
