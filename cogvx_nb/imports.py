"""Large libraries are imported by one thread at a time.

While one imports them, another would find a module without its classes.
"""

from __future__ import annotations

import threading

importing = threading.RLock()
"""Held while torch, transformers or diffusers are imported for the first time."""
