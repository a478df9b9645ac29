"""The fault drill: a whole house under everything that can go wrong at once, with the sandbox as the witness.

``python3 manage.py drill`` is the way in. Where things are

* ``house``: every process that ``up`` runs, on servers of its own; ``servers``: those of somebody else instead;
* ``forms``: how long, how many, which times; ``plan``: what is asked and what is struck, from the seed;
* ``people``: users who ask as good clients do, and note what they were told; ``strikes``: the faults of processes;
* ``recovery``: how long until the house goes on; ``memory``: whether it grows;
* ``witness``: what the sandbox saw; ``books``: what the database says; ``judge``: whether all is well;
* ``story``: the whole run; ``show``: what is printed.
"""
