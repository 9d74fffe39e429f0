"""What a policy says of one request: pure functions of the policy, the request and what moderation answered.

`decide` combines the parts; `explain` and `stages` tell people of them. No clock, no I/O, no randomness.
"""
