"""The doors: each turns what it sees into an `ImageRequest`, asks the guard, and forces what the policy decided."""
