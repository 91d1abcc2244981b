"""Regular expressions that are compiled at their first use: a client waits while we start.

`re.fullmatch` and the like do so, too, but take as long to find the compiled one again as to match a line.
"""

import re
from functools import cache


@cache
def compiled(expression: str) -> re.Pattern[str]:
    return re.compile(expression)
