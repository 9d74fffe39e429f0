"""OpenAI's HTTP forms to `ImageRequest` and `Outcome`, and refusals to bytes. Pure: bytes in, values out.

The same value that is decided on is written back, so that nothing can reach the upstream that was not looked at.
"""
