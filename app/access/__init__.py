"""Who may do what, and what was done: projects, keys, the audit trail and the events.

URLs: ``/projects``, ``/keys``, ``/audit``, ``/events`` below ``/api/v1``.
Tables: ``access_projects``, ``access_keys``; it reads the kernel's ``kernel_events`` and
``kernel_audit`` of every database that this process serves.
Events: ``project.created``, ``key.created``, ``key.revoked``.

A key belongs to a project and has scopes; a role is a name for a bundle of scopes. A key can make
no key that may do more than itself. A revocation is in force within the seconds that a process
keeps what it has looked up.
"""
