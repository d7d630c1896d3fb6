"""The commands, in the order in which help shows them."""

from __future__ import annotations

from collections.abc import Callable

from batchsense.cli.audit import audit
from batchsense.cli.correct import correct
from batchsense.cli.demo import demo
from batchsense.cli.diagnose import diagnose
from batchsense.cli.gap import gap
from batchsense.cli.layout import layout
from batchsense.cli.noise import noise
from batchsense.cli.plan import plan
from batchsense.cli.schema import schema
from batchsense.cli.surrogates import surrogates
from batchsense.cli.test import test
from batchsense.cli.verify import verify
from batchsense.cli.web import web

COMMANDS: dict[str, Callable[..., None]] = {
    "plan": plan,
    "noise": noise,
    "verify": verify,
    "audit": audit,
    "diagnose": diagnose,
    "correct": correct,
    "layout": layout,
    "test": test,
    "surrogates": surrogates,
    "gap": gap,
    "demo": demo,
    "web": web,
    "schema": schema,
}
