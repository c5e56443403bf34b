"""Who may do what, and what was done: projects, keys, the audit trail and the events.

URLs: ``/projects``, ``/keys``, ``/audit``, ``/events`` below ``/api/v1``.
Tables: ``access_projects``, ``access_keys``; of every database that a process serves it
reads the kernel's ``kernel_events`` and ``kernel_audit``: ``/audit`` and ``/events`` are served by
every process, each for its own services.
Events: ``project.created``, ``key.created``, ``key.revoked``.

A key belongs to a project and has scopes; a role is a name for a bundle of scopes. A key can make
no key that may do more than itself. A revocation is in force within the seconds that a process
keeps what it has looked up.
"""
