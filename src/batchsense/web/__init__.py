"""The commands as pages: forms around the same results and the same reports, without JavaScript.

:func:`create_app` makes an ASGI application for this machine: it keeps each visitor's files apart,
deletes them after use, and refuses requests that other sites send.
"""

from batchsense.web.app import create_app
from batchsense.web.visitors import Visitors

__all__ = ["Visitors", "create_app"]
