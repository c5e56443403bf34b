"""Training runs: from a dataset version and a request to a registered model version.

URLs: ``/estimators``, ``/training-runs`` and below; for peers ``/references/training``.
Tables: ``training_runs``, ``training_run_events``, ``training_run_logs``.
Events: ``run.queued``, ``run.running``, ``run.succeeded``, ``run.failed``, ``run.cancelled``.
Jobs: ``training_run``.

A run goes ``queued -> running -> succeeded | failed | cancelled``; a lost worker brings it back to
``queued``. While a cancel is under way its state reads ``cancelling``. The request is checked
against the dataset's columns before it is accepted (``fit.spec``), by a process that knows no
scikit-learn; a worker then has a limited child process fit, judge and compile it (``fit``,
``compile``), and puts the artifacts into the store before it registers the version.
"""
