"""The database beneath the store: its engines, its one writer and many readers, its tables, and how SQL is spoken.

Nothing here knows what the store keeps, but for the tables themselves.
"""
