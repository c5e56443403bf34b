"""Models: what training made or a client brought, its numbered versions, and where aliases point.

URLs below ``/api/v1``: ``/models``, ``/models/{model}``, ``.../versions``, ``.../versions/{n}``,
``.../versions/{n}/artifacts/{format}``, ``.../aliases``, ``.../aliases/{alias}`` with ``/history``
and ``/rollback``. For peers only: ``.../versions/{n}/location``, ``/models/{model}/state``,
``/references/models``.
Tables: ``models_models``, ``models_versions``, ``models_artifacts``, ``models_aliases``,
``models_alias_moves``. Artifacts lie in the store under ``<project>/models/``.
Events: ``model.created updated deleted``, ``version.importing registered failed updated corrupt
restored deleted``, ``alias.moved deleted``.

A version is ``importing`` until a worker has converted a client's skops file, then ``ready`` or
``failed``; it is ``corrupt`` when its stored bytes are not those that were signed. A bare model
name stands for the version of the alias ``champion``, else for the newest ready version.

The nouns: service.py has the models themselves, versions.py what is registered, imports.py what
clients bring, artifacts.py the stored bytes, aliases.py the aliases, removal.py how a thing that
others may refer to is removed, collection.py what reconciles the store with the tables; lookup.py
is how all of them find a row.
"""
