"""The OpenAI-compatible proxy: a server of its own, with its upstream, its callers' keys and its pages.

It decides nothing: each request passes the ASGI door like that of any app.
"""
