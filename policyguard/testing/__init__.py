"""Tools for policies under test: what a change does to decisions, shown by requests."""
