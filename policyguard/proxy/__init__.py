"""The OpenAI-compatible proxy: a server of its own, with its upstream, its callers' keys and its pages."""
