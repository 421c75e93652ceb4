"""A workbench for CogVideoX: from a prompt to a video that can be made again.

The road, one module a step: ``machine.probe`` → ``plan.find_model`` → ``request.make`` →
``plan.fit`` → ``pipeline.load`` → ``generate.run`` → ``result.save``. Importing this package
or any module before ``pipeline`` loads no torch.
"""

from . import settings

__version__ = "0.1.0"

settings.prepare_allocator()
