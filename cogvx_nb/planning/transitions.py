"""How a piece of a video follows the one before it."""

from __future__ import annotations

CUT, CONTINUE, FADE = "cut", "continue", "fade"
TRANSITIONS = {
    CUT: "a new clip",
    CONTINUE: "so many new frames that go on from the piece before",
    FADE: "a new clip, over whose first half second the last one fades out",
}
"""How a piece follows the one before it, by name."""
