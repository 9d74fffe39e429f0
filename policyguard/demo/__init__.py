"""The demo: a sandbox, a guarded app, varied prompts through both doors, and a report of what happened.

Nothing here is needed to use policyguard; it shows the product at work over real HTTP with the real OpenAI SDK.
"""
