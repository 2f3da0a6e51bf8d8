"""From a trained model to a folder for deployment: copy it, convert the copy, compare, describe.

The package can be called: `ppliteseg_paddle.export(config, model_path, save_dir)` is `run.export`. A function of the
package's own name would vanish from `ppliteseg_paddle` as soon as one of these modules is imported.
"""

import functools
import sys
import types
from typing import Any

from ppliteseg_paddle import environment

environment.prepare()  # before any module here imports paddle


class _CallablePackage(types.ModuleType):
    def __call__(self, *args: Any, **options: Any) -> dict[str, Any]:
        report: dict[str, Any] = self._function(*args, **options)
        return report

    @functools.cached_property
    def _function(self) -> Any:
        from ppliteseg_paddle.export.run import export

        return export

    @property
    def __signature__(self) -> Any:
        import inspect

        return inspect.signature(self._function)


sys.modules[__name__].__class__ = _CallablePackage
