"""The commands as pages: forms around the same results and the same reports, without JavaScript.

:func:`create_app` makes an ASGI application for this machine: it keeps each visitor's files apart,
reads them in processes of their own, deletes them after use, and refuses whoever has no key and
whatever other sites send.
"""

from batchsense.web.app import create_app
from batchsense.web.entrance.door import Door
from batchsense.web.readers import Readers
from batchsense.web.visitors import Visitors

__all__ = ["Door", "Readers", "Visitors", "create_app"]
