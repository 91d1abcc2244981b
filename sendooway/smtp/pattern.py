"""Regular expressions that are compiled at their first use: a client waits while we start.

`re` does the same, but to find them again takes it as long as to match a line.
"""

import re
from functools import cache


@cache
def compiled(expression: str) -> re.Pattern[str]:
    return re.compile(expression)
