"""The stages of a batch: a table, and one file for each with its task, its result and its function.

``table.py`` says of every stage what the rest of the batch needs to know; the order of its lines is
the way of a clip. A stage's file has a ``StageTask`` (what it is told), a ``StageResult`` (what it
answers, and what the journal keeps of it) and a function ``(context, task) -> result``, which runs
in a worker and raises what goes wrong.

To add a stage, touch: its line in ``table.py``, its file here, its tests. As an example, ``fit``,
once a clip between ``analyse`` and ``render``, where the networks run, with a digest a track:

- ``stages/fit.py``: ``FitTask(StageTask)``; ``FitResult(StageResult)`` with ``digests:
  tuple[str, ...]``, and ``is_kept`` to ask whether the states are still on disk; ``fit(context,
  task) -> FitResult``, which asks ``context.session(...)`` and calls ``context.beat`` as it goes on;
- ``table.py``: ``FIT = Stage("fit", FitTask, FitResult, fit, gpu=True, event="fitted",
  applies=...)``, in ``STAGES`` between ``PICTURE`` and ``RENDER``. ``applies`` is asked for every
  clip: false for one without segments, and for a method that fits nothing (a field of
  ``RunOptions`` says so). Its name goes into ``ahead_of`` of ``ANALYSE``: analyses wait where many
  clips wait for their fit;
- what follows finds the result: ``clip.result_of(FitResult)`` in ``RenderTask.of``.

Schedule, workers, journal, resume and progress need no change. A run that was begun before the
stage was there is resumed with it. Where results of the other stages come to mean something else,
``STAGES_VERSION`` (``request/jobs.py``) goes up, and earlier runs are refused.
"""
