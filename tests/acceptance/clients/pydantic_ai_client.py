"""pydantic-ai with its native image tool, over three turns."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pydantic_ai
print([n for n in dir(pydantic_ai) if "mage" in n or "ool" in n])
