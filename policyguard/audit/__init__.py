"""The record's keys: pseudonyms and encryption (`private`), the key file (`keys`). Rows themselves are the store's."""
