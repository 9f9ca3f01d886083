# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on a host for the action `managed_host`: pure Python 3.11 of the standard library, sent along with its task.

Names that only annotations need are imported below a TYPE_CHECKING that is false: importing typing would cost every task time.
"""
