"""The first code of the one file. It has to parse on every Python there is: /usr/bin/python3 may be an old one."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.stderr.write("sendooway: needs Python 3.11 or newer; this is " + sys.version.split()[0] + "\n")
    sys.exit(78)


def import_at_first_use(name):  # type: ignore[no-untyped-def]
    """The module `name`, as `import` gives it from now on: what it costs is spent when somebody asks it for a thing."""
    from importlib.util import LazyLoader, find_spec, module_from_spec

    spec = find_spec(name)
    spec.loader = LazyLoader(spec.loader)
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


# dataclasses imports it for classes without a docstring, and it takes as long as Python's own start.
import_at_first_use("inspect")

from sendooway.cli import main  # noqa: E402

sys.exit(main())
