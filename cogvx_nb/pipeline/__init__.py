"""The only place that loads torch models and diffusers."""

from .. import settings

settings.prepare_torch()  # whoever imports a module of this package, before torch and diffusers
