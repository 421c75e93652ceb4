"""The engine as papermill finds it: by an entry point, loaded while papermill itself is."""

from __future__ import annotations


class WarmEngine:
    """``warm_engine.WarmEngine``, imported when it is first used."""

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
