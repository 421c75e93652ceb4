"""The papermill engine's entry point, which papermill loads while it is imported itself."""

from __future__ import annotations


class WarmEngine:
    """``warm_engine.WarmEngine``, imported on first use."""

    @staticmethod
    def execute_notebook(nb, kernel_name, **options):
        return _engine().execute_notebook(nb, kernel_name, **options)

    @staticmethod
    def nb_kernel_name(nb, name=None):
        return _engine().nb_kernel_name(nb, name)

    @staticmethod
    def nb_language(nb, language=None):
        return _engine().nb_language(nb, language)


def _engine():
    from . import warm_engine  # which imports papermill

    return warm_engine.WarmEngine
