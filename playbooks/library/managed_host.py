# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents the action `managed_host`; its code is the action plugin of that name and `playbooks/host`."""

from __future__ import annotations

DOCUMENTATION = r"""
module: managed_host
short_description: Bring many packages, files, kernel settings, units, users and accounts into their wanted state in one round trip
description:
  - Takes its steps in turn; each is of one kind. What is right already is left alone.
  - The action plugin of the same name renders templates on the control node.
  - A file with C(restarts) or C(reloads), or packages with C(restarts), leave a marker on the host before they change, which a
    later step with C(units) acts on, also one of a later run, where this one was killed.
  - A task of a role notes on the host what it applied, below C(/var/lib/ratssaal/manifest), for C(ratssaal drift).
options:
  steps:
    description: What is wanted, in order.
    type: list
    elements: dict
    required: true
    suboptions:
      packages:
        description:
          - Debian packages. Repairs what an interrupted dpkg left, waits for another's apt lock and names its holder.
          - Services do not start while their packages are installed; they start after they are configured.
          - Refuses Ratssaal's stand-in packages on a host that no lab made.
        type: dict
        suboptions:
          names:
            description: Packages that must be installed, in whatever version unless C(versions) names one.
            type: list
            elements: str
            default: []
          versions:
            description: Package to exact version; what is not among C(names) is left alone.
            type: dict
            default: {}
          hold:
            description: Packages that no upgrade may touch.
            type: list
            elements: str
            default: []
          absent:
            description: Packages that must not be installed; one that another package needs stays.
            type: list
            elements: str
            default: []
          debconf:
            description: Answers (package, question, type, value) given before a package is installed for the first time.
            type: list
            elements: dict
            default: []
          withdrawn:
            description:
              - Answers (package, question, type, value) that an earlier version of a role gave and that anybody on the host can
                read. Where debconf or its backup still holds one, the question gets an empty answer.
            type: list
            elements: dict
            default: []
          beforehand:
            description:
              - Files (dest, content) written for root alone before the first installation, where they are missing.
              - Maintainer scripts then find a configuration and need not make one, with a password among a program's arguments.
            type: list
            elements: dict
            default: []
          restarts:
            description: Units to restart where a package was installed, in another version as a rule; its scripts restart nothing.
            type: list
            elements: str
            default: []
          update:
            description: Read the package lists anew where a package is missing, or also where an earlier step changed something.
            type: str
            choices: [missing, changed]
            default: missing
          security_updates:
            description: Run C(unattended-upgrade) where this host was never brought up to date; later updates are its timer's.
            type: bool
            default: false
          lock_timeout:
            description: Seconds to wait for somebody else's apt.
            type: int
            default: 120
      files:
        description:
          - Files, links and directories, each a dictionary with dest and one of content, template, src_file (a file of the role
            or beside the site), link, state (directory, absent, given_back); owner, group, mode, restarts, reloads.
          - One that is C(given_back) becomes what stood there before the first run, else what its package brings there, or goes
            where none does; only where it begins with our mark, or is as we wrote it.
          - C(secret) keeps a file out of diffs, C(validate) is a command with %s that refuses it, C(force) false keeps what is
            there.
        type: list
        elements: dict
      contents:
        description: Number of a file in C(files), from 0, to its content in base64; filled in by the action plugin.
        type: dict
        default: {}
      sysctl:
        description:
          - The file (C(path)) below /etc/sysctl.d and its settings (C(values)), which the running kernel gets too.
          - In a name C(*) stands for every interface, those that are there now and those that come.
          - Instead of a value a dictionary with C(value) and C(better), a list with the best last or C(larger), keeps what is better
            where another file below sysctl.d says it, or the kernel runs with it.
        type: dict
      units:
        description:
          - Units of systemd with name, enabled (bool), state (started, stopped, timed or kept) and masked (bool). One that is
            C(timed) is left running or not, as its timer has it; systemd reads its files. One that is C(kept) is left as it is,
            whoever wants it so; where it runs, or has failed, it is restarted for its files.
          - C(health) is the address of a unit's own health check; the task ends when all of them answer 200, and fails where one
            does not within three minutes. Its fragment (C(#bridges.count)) names a number of the JSON answer that must not be 0.
          - C(effective) is a shell command that fails where what a unit set is not so any more, and the unit is restarted; what then
            still is not so is told as C(not_settable).
        type: list
        elements: dict
      settle:
        description: Seconds after which a unit that was started or restarted must be active, or the task fails.
        type: float
        default: 1.5
      accounts:
        description:
          - Prosody's internal accounts; C(accounts) are dictionaries with jid and password.
          - In the domains of C(absent_others_in) every account that is not listed is removed.
          - C(watched) are dictionaries with jid, by (a component that is told when the account comes and goes) and restarts,
            the units that must log in anew when that was not so yet.
        type: dict
      users:
        description:
          - Users of the system that a package makes, each with name and its login shell.
          - In check mode one that is not there yet counts as right.
        type: list
        elements: dict
      capabilities:
        description:
          - Measure what this host is, as the fact C(ratssaal_host); roles branch on that and on nothing else.
          - A host that runs none of these releases of Debian (C(debian)) is refused.
        type: dict
      certificate:
        description: One phase of the action C(own_ca_certificate).
        type: dict
      guard:
        description: One phase of the action C(guarded_change).
        type: dict
"""
