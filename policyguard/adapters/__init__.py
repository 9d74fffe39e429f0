"""The doors: each turns what it sees into an `ImageRequest`, asks the guard, and forces what the policy decided.

What a door must not do is decide: there is one path for that, in `guard`, and every door takes it.
"""
