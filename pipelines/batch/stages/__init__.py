"""The stages of a batch: a table, and one file for each with its task, its result and its function.

``table.py`` says of every stage what the rest of the batch needs to know; the order of its lines is
the way of a clip. A stage's file has a ``StageTask`` (what it is told), a ``StageResult`` (what it
answers, and what the journal keeps of it) and a function ``(context, task) -> result``, which runs
in a worker and raises what goes wrong.

To add a stage, touch: its line in ``table.py``, its file here, its tests. ``fit`` is a small
example: once a clip, where the networks run, for the methods that learn something of a track. What
follows finds its result by ``clip.result_of(FitResult)``. Schedule, workers, journal, resume and
progress need no change, and a run that was begun before the stage was there is resumed with it.
Where results of the other stages come to mean something else, ``STAGES_VERSION``
(``request/jobs.py``) goes up, and earlier runs are refused.
"""
